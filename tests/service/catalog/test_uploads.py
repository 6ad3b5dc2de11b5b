"""Taking uploads in and finding them again, on PostgreSQL."""

import dataclasses

import pytest
import sqlalchemy as sa

from services.catalog import handlers, queries
from shared import problems
from shared.events import AssetUploaded
from shared.ids import new_id
from tests.service.catalog.outbox import told


def look_up(db, org_id, asset_id):
    with db.transaction(org_id=org_id, livemode=True) as session:
        return queries.asset(session, org_id=org_id, livemode=True, asset_id=asset_id)


def resolve(db, org_id, *asset_ids):
    with db.transaction(org_id=org_id, livemode=True) as session:
        return queries.resolve(session, org_id=org_id, livemode=True, asset_ids=asset_ids)


def age(db, asset_id, interval):
    """Let an asset have been uploaded ``interval`` ago."""
    with db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE assets SET created_at = created_at - CAST(:by AS interval),"
                " delete_after = delete_after - CAST(:by AS interval) WHERE id = :id"
            ),
            {"by": interval, "id": asset_id},
        )


def test_a_registered_upload_is_found_and_told_of(catalog_db, an_upload):
    upload = an_upload(purpose="room", file_name="salon.jpg")

    answered = handlers.register_asset(catalog_db, upload)

    assert answered == look_up(catalog_db, "org_first", upload.asset_id)
    assert answered["id"] == upload.asset_id
    assert (answered["key"], answered["sha256"], answered["bytes"]) == (
        upload.key,
        upload.sha256,
        upload.bytes,
    )
    assert (answered["delete_after"], answered["warnings"]) == (None, [])
    assert [event.asset_id for event in told(catalog_db, AssetUploaded)] == [upload.asset_id]


def test_registering_the_same_upload_again_answers_alike_and_tells_nothing_new(catalog_db, an_upload):
    upload = an_upload()
    first = handlers.register_asset(catalog_db, upload)

    again = handlers.register_asset(catalog_db, upload)

    assert again == first
    assert len(told(catalog_db)) == 1


def test_an_id_that_names_other_bytes_already_is_refused(catalog_db, an_asset):
    upload = an_asset()

    with pytest.raises(problems.Conflict):
        handlers.register_asset(catalog_db, dataclasses.replace(upload, sha256="0" * 64))


def test_an_id_of_another_organization_is_refused_without_showing_its_asset(catalog_db, an_asset):
    theirs = an_asset(org_id="org_first")

    with pytest.raises(problems.Conflict) as refusal:
        handlers.register_asset(catalog_db, dataclasses.replace(theirs, org_id="org_second"))

    assert theirs.key not in str(refusal.value)
    assert len(told(catalog_db)) == 1


def test_an_unknown_purpose_is_refused_by_name(catalog_db, an_upload):
    with pytest.raises(problems.BadRequest, match="landscape"):
        handlers.register_asset(catalog_db, an_upload(purpose="landscape"))

    assert told(catalog_db) == []


def test_a_job_gets_the_snapshots_of_all_its_assets(catalog_db, an_asset):
    room, face = an_asset(), an_asset(purpose="face")

    snapshots = resolve(catalog_db, "org_first", room.asset_id, face.asset_id)

    assert snapshots[room.asset_id] == {
        "id": room.asset_id,
        "key": room.key,
        "sha256": room.sha256,
        "content_type": "image/jpeg",
        "bytes": room.bytes,
        "width": 800,
        "height": 600,
        "purpose": "room",
        "delete_after": None,
    }
    assert snapshots[face.asset_id]["delete_after"].endswith("Z")


def test_resolving_names_every_asset_that_is_missing(catalog_db, an_asset):
    known, unknown = an_asset(), new_id("ast")
    foreign = an_asset(org_id="org_second")

    with pytest.raises(problems.NotFound) as refusal:
        resolve(catalog_db, "org_first", known.asset_id, unknown, foreign.asset_id)

    assert refusal.value.extra["missing"] == sorted([unknown, foreign.asset_id])


def test_a_face_is_due_exactly_30_minutes_after_its_upload(catalog_db, an_asset):
    upload = an_asset(purpose="face")

    with catalog_db.transaction() as session:
        kept = session.execute(sa.text("SELECT delete_after - created_at FROM assets")).scalar_one()

    assert kept.total_seconds() == 30 * 60
    age(catalog_db, upload.asset_id, "29 minutes 50 seconds")
    assert look_up(catalog_db, "org_first", upload.asset_id)


def test_an_asset_past_its_retention_is_gone_before_the_sweep_comes_by(catalog_db, an_asset):
    upload = an_asset(purpose="face")

    age(catalog_db, upload.asset_id, "30 minutes")

    with pytest.raises(problems.NotFound):
        look_up(catalog_db, "org_first", upload.asset_id)
    with pytest.raises(problems.NotFound):
        resolve(catalog_db, "org_first", upload.asset_id)


OTHERS = pytest.mark.parametrize(
    "other",
    [
        {"org_id": "org_second", "livemode": True},
        {"org_id": "org_first", "livemode": False},
        {"org_id": "org_second", "livemode": False},
    ],
)


@OTHERS
def test_another_organization_or_mode_sees_nothing_even_without_a_where(catalog_db, an_asset, other):
    an_asset(org_id="org_first")

    with catalog_db.transaction(**other) as session:
        seen = session.execute(sa.text("SELECT count(*) FROM assets")).scalar_one()
        changed = session.execute(sa.text("UPDATE assets SET width = 1")).rowcount

    assert (seen, changed) == (0, 0)


def test_who_does_not_say_of_which_mode_sees_nothing(catalog_db, an_asset):
    an_asset(org_id="org_first")

    with catalog_db.transaction(org_id="org_first") as session:
        assert session.execute(sa.text("SELECT count(*) FROM assets")).scalar_one() == 0


@OTHERS
def test_reads_name_organization_and_mode_even_where_the_database_would_show_every_row(catalog_db, an_asset, other):
    theirs = an_asset(org_id="org_first")

    with catalog_db.transaction() as session:
        with pytest.raises(problems.NotFound):
            queries.asset(session, **other, asset_id=theirs.asset_id)
        with pytest.raises(problems.NotFound):
            queries.resolve(session, **other, asset_ids=[theirs.asset_id])


def test_many_jobs_are_resolved_at_once_and_none_sees_what_is_another_s_or_of_the_other_mode(catalog_db, an_asset):
    mine, theirs = an_asset(), an_asset(org_id="org_second")
    asked = [
        queries.Wanted(org_id="org_first", livemode=True, asset_ids=[mine.asset_id]),
        queries.Wanted(org_id="org_first", livemode=True, asset_ids=[theirs.asset_id]),
        queries.Wanted(org_id="org_first", livemode=False, asset_ids=[mine.asset_id]),
        queries.Wanted(org_id="org_second", livemode=True, asset_ids=[theirs.asset_id, theirs.asset_id]),
    ]

    found, refused, of_the_other_mode, other = handlers.resolve_many(catalog_db, asked)

    assert found[mine.asset_id]["key"] == mine.key
    assert isinstance(refused, problems.NotFound)
    assert refused.extra["missing"] == [theirs.asset_id]
    assert isinstance(of_the_other_mode, problems.NotFound)
    assert list(other) == [theirs.asset_id]
