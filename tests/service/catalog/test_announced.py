"""Faces whose bytes are about to be stored: whatever happens then, they become an upload or they go."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from services.catalog import handlers, queries
from shared import problems
from shared.events import AssetUploaded, SourceDeleted
from tests.service.catalog.outbox import told


@pytest.fixture
def face(an_upload):
    """Store a face as the gateway does; it is nobody's yet."""
    return an_upload(purpose="face")


def find(db, upload):
    with db.transaction(org_id=upload.org_id, livemode=upload.livemode) as session:
        return queries.asset(session, org_id=upload.org_id, livemode=upload.livemode, asset_id=upload.asset_id)


def minutes_pass(db, minutes, *asset_ids):
    """Let time pass for these, or for all."""
    which = "WHERE id = ANY (:ids)" if asset_ids else ""
    with db.transaction() as session:
        session.execute(
            sa.text(f"UPDATE assets SET claimed_until = claimed_until - make_interval(mins => :minutes) {which}"),
            {"minutes": minutes, "ids": list(asset_ids)},
        )


def test_what_is_announced_is_there_for_nobody_until_it_is_registered(catalog_db, face):
    handlers.announce_asset(catalog_db, face)

    with pytest.raises(problems.NotFound):
        find(catalog_db, face)
    with catalog_db.transaction(org_id=face.org_id, livemode=True) as session, pytest.raises(problems.NotFound):
        queries.resolve(session, org_id=face.org_id, livemode=True, asset_ids=[face.asset_id])
    assert told(catalog_db, AssetUploaded) == []
    registered = handlers.register_asset(catalog_db, face)
    assert find(catalog_db, face) == registered
    assert [event.asset_id for event in told(catalog_db, AssetUploaded)] == [face.asset_id]


def test_a_face_whose_gateway_died_before_it_was_registered_is_gone_within_minutes(catalog_db, store, face):
    handlers.announce_asset(catalog_db, face)
    assert handlers.remove_due(catalog_db, store) == 0
    assert store.stat(face.key) is not None

    minutes_pass(catalog_db, 5)
    removed = handlers.remove_due(catalog_db, store)

    assert removed == 1
    assert store.stat(face.key) is None
    assert [event.asset_id for event in told(catalog_db, SourceDeleted)] == [face.asset_id]


def test_what_was_given_up_cannot_be_registered_any_more(catalog_db, store, face):
    handlers.announce_asset(catalog_db, face)
    minutes_pass(catalog_db, 5)
    handlers.remove_due(catalog_db, store)

    for call in (handlers.announce_asset, handlers.register_asset):
        with pytest.raises(problems.NotFound):
            call(catalog_db, face)

    assert told(catalog_db, AssetUploaded) == []


def test_what_is_being_given_up_just_now_cannot_be_registered_either(catalog_db, store, face):
    """Whoever has claimed it removes its bytes in a moment, if it has not done so already."""
    handlers.announce_asset(catalog_db, face)
    handlers.delete_asset(catalog_db, store, org_id=face.org_id, livemode=True, asset_id=face.asset_id)

    with pytest.raises(problems.NotFound):
        handlers.register_asset(catalog_db, face)


def test_announced_again_it_has_its_minutes_once_more(catalog_db, store, face):
    handlers.announce_asset(catalog_db, face)
    minutes_pass(catalog_db, 4)
    handlers.announce_asset(catalog_db, face)
    minutes_pass(catalog_db, 4)

    assert handlers.remove_due(catalog_db, store) == 0
    assert handlers.register_asset(catalog_db, face)["id"] == face.asset_id


def test_a_repeat_of_the_whole_leaves_the_upload_and_its_end_as_they_are(catalog_db, store, face):
    assert handlers.announce_asset(catalog_db, face)
    first = handlers.register_asset(catalog_db, face)

    assert not handlers.announce_asset(catalog_db, face)
    minutes_pass(catalog_db, 60)

    assert handlers.remove_due(catalog_db, store) == 0
    assert handlers.register_asset(catalog_db, face) == first
    assert len(told(catalog_db, AssetUploaded)) == 1


def test_its_half_hour_begins_when_it_is_registered(catalog_db, face):
    handlers.announce_asset(catalog_db, face)
    with catalog_db.transaction() as session:
        long_ago = "created_at - interval '4 minutes', delete_after = delete_after - interval '4 minutes'"
        session.execute(sa.text(f"UPDATE assets SET created_at = {long_ago}"))

    handlers.register_asset(catalog_db, face)

    with catalog_db.transaction() as session:
        since, left = session.execute(sa.text("SELECT now() - created_at, delete_after - now() FROM assets")).one()
    assert since.total_seconds() < 60
    assert 29 * 60 < left.total_seconds() <= 30 * 60


@pytest.mark.parametrize(
    "other",
    [{"org_id": "org_second"}, {"livemode": False}, {"key": "assets/org_first/other.jpg"}, {"sha256": "0" * 64}],
)
def test_an_announced_id_is_registered_by_whom_and_for_what_it_was_announced_only(catalog_db, face, other):
    handlers.announce_asset(catalog_db, face)

    with pytest.raises((problems.NotFound, problems.Conflict)):
        handlers.register_asset(catalog_db, dataclasses.replace(face, **other))

    assert told(catalog_db, AssetUploaded) == []


def test_there_is_no_receipt_of_what_is_only_announced(catalog_db, face):
    handlers.announce_asset(catalog_db, face)

    with (
        catalog_db.transaction(org_id=face.org_id, livemode=True) as session,
        pytest.raises(problems.Conflict),
    ):
        queries.deletion(session, org_id=face.org_id, livemode=True, asset_id=face.asset_id)


def test_whoever_is_first_rows_and_bytes_agree_in_the_end(catalog_db, store, an_upload):
    """Every other upload is given up at about the moment at which it arrives."""
    uploads = [an_upload(purpose="face") for _ in range(40)]
    done = threading.Event()

    def arrive(upload):
        try:
            handlers.announce_asset(catalog_db, upload)
            if int(upload.sha256, 16) % 2:
                minutes_pass(catalog_db, 5, upload.asset_id)
            store.put(key=upload.key, chunks=upload.asset_id.encode(), content_type="image/jpeg")
            handlers.register_asset(catalog_db, upload)
        except problems.NotFound:
            store.delete(upload.key)  # as the gateway does

    def sweep():
        while not done.is_set():
            handlers.remove_due(catalog_db, store)

    for upload in uploads:
        store.delete(upload.key)
    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(arrive, uploads))
    done.set()
    for sweeper in sweepers:
        sweeper.join()
    minutes_pass(catalog_db, 5)  # bytes that came back between deletion and look are looked at again when a claim ends
    handlers.remove_due(catalog_db, store)

    with catalog_db.transaction() as session:
        rows = session.execute(sa.text("SELECT key, deletion_reason IS NULL FROM assets")).all()
    there = {key for key, present in rows if present}
    assert set(store.keys()) == there
    gone = [event.asset_id for event in told(catalog_db, SourceDeleted)]
    assert len(gone) == len(set(gone)) == 40 - len(there)
