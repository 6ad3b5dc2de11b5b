"""Deleting assets, with a crash or a failing store between any two steps."""

import threading

import pytest
import sqlalchemy as sa

from services.catalog import handlers, queries
from shared import problems
from shared.events import AssetUploaded, SourceDeleted
from shared.ids import new_id
from shared.storage_s3 import S3Store
from tests.fakes import FakeS3
from tests.service.catalog.outbox import told


@pytest.fixture
def failing_store(monkeypatch):
    """A store whose service answers 503, until ``answers`` is emptied."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    fake = FakeS3()
    fake.answers = [503] * 100
    with fake.running() as endpoint:
        yield S3Store(bucket="darkroom", endpoint=endpoint, region="us-east-1")


def delete(db, store, upload):
    return handlers.delete_asset(db, store, org_id=upload.org_id, livemode=upload.livemode, asset_id=upload.asset_id)


def find(db, upload):
    with db.transaction(org_id=upload.org_id, livemode=upload.livemode) as session:
        return queries.asset(session, org_id=upload.org_id, livemode=upload.livemode, asset_id=upload.asset_id)


def claims_end(db):
    with db.transaction() as session:
        session.execute(sa.text("UPDATE assets SET claimed_until = now() WHERE claimed_until IS NOT NULL"))


def retention_ends(db, *uploads):
    with db.transaction() as session:
        session.execute(
            sa.text("UPDATE assets SET delete_after = now() WHERE id = ANY(:ids)"),
            {"ids": [upload.asset_id for upload in uploads]},
        )


def test_a_deleted_asset_is_gone_with_its_bytes_and_that_is_told_once(catalog_db, store, an_asset):
    upload = an_asset()

    answered = delete(catalog_db, store, upload)

    assert answered["id"] == upload.asset_id
    assert store.stat(upload.key) is None
    with pytest.raises(problems.NotFound):
        find(catalog_db, upload)
    (told_of,) = told(catalog_db, SourceDeleted)
    assert (told_of.asset_id, told_of.reason, told_of.sha256) == (
        upload.asset_id,
        "requested",
        upload.sha256,
    )


def test_deleting_twice_answers_alike_and_tells_once(catalog_db, store, an_asset):
    upload = an_asset()
    first = delete(catalog_db, store, upload)

    again = delete(catalog_db, store, upload)

    assert again == first
    assert len(told(catalog_db, SourceDeleted)) == 1


@pytest.mark.parametrize(
    "other", [{"org_id": "org_second", "livemode": True}, {"org_id": "org_first", "livemode": False}]
)
def test_an_asset_of_another_organization_or_mode_cannot_be_deleted(catalog_db, store, an_asset, other):
    theirs = an_asset(org_id="org_first")

    with pytest.raises(problems.NotFound):
        handlers.delete_asset(catalog_db, store, **other, asset_id=theirs.asset_id)

    assert store.stat(theirs.key) is not None
    assert find(catalog_db, theirs)


@pytest.mark.parametrize("livemode", [True, False])
def test_what_is_told_of_an_upload_says_of_which_mode_it_is(catalog_db, store, an_asset, livemode):
    upload = an_asset(livemode=livemode)

    shown = delete(catalog_db, store, upload)

    assert shown["livemode"] is livemode
    assert [event.livemode for event in told(catalog_db, AssetUploaded) + told(catalog_db, SourceDeleted)] == [
        livemode,
        livemode,
    ]


def test_an_unknown_asset_cannot_be_deleted(catalog_db, store):
    with pytest.raises(problems.NotFound):
        handlers.delete_asset(catalog_db, store, org_id="org_first", livemode=True, asset_id=new_id("ast"))


def test_while_the_store_is_down_the_asset_is_gone_for_callers_and_nothing_is_told(catalog_db, failing_store, an_asset):
    upload = an_asset()

    with pytest.raises(problems.Unavailable):
        delete(catalog_db, failing_store, upload)

    with pytest.raises(problems.NotFound):
        find(catalog_db, upload)
    assert told(catalog_db, SourceDeleted) == []


def test_a_deletion_that_was_cut_short_is_finished_by_the_sweep(catalog_db, store, failing_store, an_asset):
    upload = an_asset()
    with pytest.raises(problems.Unavailable):
        delete(catalog_db, failing_store, upload)

    claims_end(catalog_db)
    removed = handlers.remove_due(catalog_db, store)

    assert removed == 1
    assert store.stat(upload.key) is None
    assert [event.reason for event in told(catalog_db, SourceDeleted)] == ["requested"]


def test_a_crash_after_the_bytes_were_removed_is_healed_by_the_sweep(catalog_db, store, failing_store, an_asset):
    upload = an_asset()
    with pytest.raises(problems.Unavailable):
        delete(catalog_db, failing_store, upload)
    store.delete(upload.key)

    claims_end(catalog_db)
    removed = handlers.remove_due(catalog_db, store)

    assert removed == 1
    assert len(told(catalog_db, SourceDeleted)) == 1


def test_the_sweep_leaves_alone_what_somebody_is_deleting(catalog_db, store, failing_store, an_asset):
    upload = an_asset()
    with pytest.raises(problems.Unavailable):
        delete(catalog_db, failing_store, upload)

    removed = handlers.remove_due(catalog_db, store)

    assert removed == 0
    assert store.stat(upload.key) is not None


def test_the_sweep_removes_what_is_past_its_retention_and_nothing_else(catalog_db, store, an_asset):
    room, fresh_face, due_face = an_asset(), an_asset(purpose="face"), an_asset(purpose="face")
    retention_ends(catalog_db, due_face)

    removed = handlers.remove_due(catalog_db, store)

    assert removed == 1
    assert store.stat(due_face.key) is None
    assert [store.stat(kept.key) is None for kept in (room, fresh_face)] == [False, False]
    assert [(event.asset_id, event.reason) for event in told(catalog_db, SourceDeleted)] == [
        (due_face.asset_id, "retention")
    ]


def test_a_store_that_is_down_costs_no_asset_its_deletion(catalog_db, store, failing_store, an_asset):
    faces = [an_asset(purpose="face") for _ in range(3)]
    retention_ends(catalog_db, *faces)
    assert handlers.remove_due(catalog_db, failing_store) == 0

    claims_end(catalog_db)
    removed = handlers.remove_due(catalog_db, store)

    assert removed == 3
    assert [event.reason for event in told(catalog_db, SourceDeleted)] == ["retention"] * 3


def test_one_photo_that_the_store_keeps_does_not_keep_the_others(catalog_db, store, an_asset, monkeypatch):
    faces = [an_asset(purpose="face") for _ in range(60)]
    retention_ends(catalog_db, *faces)
    locked = faces[0].key
    delete = store.delete
    monkeypatch.setattr(store, "delete", lambda key: None if key == locked else delete(key))

    for _ in range(2):
        handlers.remove_due(catalog_db, store)

    assert list(store.keys()) == [locked]
    assert len(told(catalog_db, SourceDeleted)) == 59


def test_one_sweep_removes_all_that_is_due_however_much_it_is(catalog_db, store, an_asset):
    faces = [an_asset(purpose="face") for _ in range(12)]
    retention_ends(catalog_db, *faces)

    assert handlers.remove_due(catalog_db, store, batch=5) == 12


def test_many_sweeps_at_once_tell_of_each_asset_once(catalog_db, store, an_asset):
    faces = [an_asset(purpose="face") for _ in range(20)]
    retention_ends(catalog_db, *faces)
    sweeps = [
        threading.Thread(target=handlers.remove_due, args=(catalog_db, store), kwargs={"batch": 7}) for _ in range(4)
    ]

    for sweep in sweeps:
        sweep.start()
    for sweep in sweeps:
        sweep.join()

    told_of = [event.asset_id for event in told(catalog_db, SourceDeleted)]
    assert sorted(told_of) == sorted(face.asset_id for face in faces)
    assert [store.stat(face.key) for face in faces] == [None] * 20


def receipt(db, upload, **owner):
    owner = {"org_id": upload.org_id, "livemode": upload.livemode, **owner}
    with db.transaction(**owner) as session:
        return queries.deletion(session, **owner, asset_id=upload.asset_id)


def test_a_face_is_gone_from_the_store_when_its_half_hour_is_over_and_there_is_a_receipt(catalog_db, store, an_asset):
    face = an_asset(purpose="face", file_name="ada.jpg")
    assert find(catalog_db, face)["delete_after"]
    handlers.remove_due(catalog_db, store)
    assert store.stat(face.key) is not None
    retention_ends(catalog_db, face)

    handlers.remove_due(catalog_db, store)

    assert store.stat(face.key) is None
    told_of = receipt(catalog_db, face)
    assert (told_of["upload_id"], told_of["purpose"], told_of["reason"]) == (face.asset_id, "face", "retention")
    assert (told_of["sha256"], told_of["consent"]) == (face.sha256, None)
    assert told_of["uploaded_at"] <= told_of["deleted_at"]
    (event,) = told(catalog_db, SourceDeleted)
    assert event.reason == "retention"
    with catalog_db.transaction() as session:
        assert session.scalar(sa.text("SELECT file_name FROM assets")) is None


def test_a_face_that_is_kept_says_who_agreed_to_that_and_when(catalog_db, store, an_asset):
    kept = an_asset(purpose="face", keep_original=True)

    shown = find(catalog_db, kept)

    assert shown["delete_after"] is None
    assert shown["consent"] == {"given_at": shown["created_at"], "given_by": "usr_1"}
    assert find(catalog_db, an_asset(purpose="room", keep_original=True))["consent"] is None
    delete(catalog_db, store, kept)
    assert receipt(catalog_db, kept)["consent"]["given_by"] == "usr_1"


def test_there_is_no_receipt_of_what_is_there_still_or_of_what_is_anothers(catalog_db, an_asset):
    upload = an_asset()

    with pytest.raises(problems.Conflict):
        receipt(catalog_db, upload)
    with pytest.raises(problems.NotFound):
        receipt(catalog_db, upload, org_id="org_second")


class Stubborn:
    """A store that says it has deleted, and has not."""

    def __init__(self, store):
        self.stat = store.stat

    def delete(self, _key):
        return None


def test_a_store_that_keeps_what_it_was_to_delete_gives_no_receipt(catalog_db, store, an_asset):
    face = an_asset(purpose="face")
    retention_ends(catalog_db, face)

    assert handlers.remove_due(catalog_db, Stubborn(store)) == 0

    assert told(catalog_db, SourceDeleted) == []
    with pytest.raises(problems.Conflict):
        receipt(catalog_db, face)
    claims_end(catalog_db)
    assert handlers.remove_due(catalog_db, store) == 1
    assert receipt(catalog_db, face)
