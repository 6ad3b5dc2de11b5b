"""Uploads whose bytes go to the store directly: announced, fulfilled, collected."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from services.catalog import handlers, queries
from services.catalog.assets import Expected
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, LimitExceeded, NotFound
from shared.storage_s3 import S3Store
from tests.fakes import FakeS3


@pytest.fixture
def coming():
    """Say what a client is going to send."""

    def make(**fields):
        upload_id = new_id("ast")
        return Expected(
            **{
                "upload_id": upload_id,
                "org_id": "org_first",
                "user_id": "usr_1",
                "livemode": True,
                "purpose": "room",
                "key": f"assets/org_first/{upload_id}.sent.jpg",
                "content_type": "image/jpeg",
                "bytes": 100,
                **fields,
            }
        )

    return make


def find(db, upload, org_id="org_first", *, livemode=True):
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        return queries.expected_upload(session, org_id=org_id, livemode=livemode, upload_id=upload.upload_id)


def time_is_over(db):
    with db.transaction() as session:
        session.execute(sa.text("UPDATE expected_uploads SET collect_after = now()"))


def times(db):
    with db.transaction() as session:
        found = session.execute(
            sa.text("SELECT expires_at - created_at, collect_after - created_at FROM expected_uploads")
        ).one()
    return [part.total_seconds() / 60 for part in found]


def test_what_is_coming_is_recorded_and_found(catalog_db, coming):
    upload = coming(sha256="a" * 64)

    answered = handlers.expect_upload(catalog_db, upload)

    assert answered == find(catalog_db, upload)
    assert (answered["id"], answered["key"], answered["bytes"]) == (upload.upload_id, upload.key, 100)
    assert (answered["sha256"], answered["asset_id"]) == ("a" * 64, None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, [60, 1440]), ({"purpose": "face"}, [15, 30]), ({"purpose": "face", "keep_original": True}, [15, 30])],
)
def test_a_face_as_it_was_sent_waits_for_half_an_hour_and_no_consent_prolongs_that(
    catalog_db, coming, fields, expected
):
    handlers.expect_upload(catalog_db, coming(**fields))

    assert times(catalog_db) == expected


def test_the_same_again_answers_alike_with_the_times_of_the_first(catalog_db, coming):
    upload = coming()

    assert handlers.expect_upload(catalog_db, upload) == handlers.expect_upload(catalog_db, upload)


@pytest.mark.parametrize(
    "change",
    [{"bytes": 7}, {"org_id": "org_second"}, {"livemode": False}, {"purpose": "face"}, {"sha256": "b" * 64}],
)
def test_an_id_stands_for_one_upload(catalog_db, coming, change):
    upload = coming()
    handlers.expect_upload(catalog_db, upload)

    with pytest.raises(Conflict):
        handlers.expect_upload(catalog_db, dataclasses.replace(upload, **change))


def test_a_purpose_nobody_knows_is_refused(catalog_db, coming):
    with pytest.raises(BadRequest, match="landscape"):
        handlers.expect_upload(catalog_db, coming(purpose="landscape"))


@pytest.mark.parametrize("other", [{"org_id": "org_second"}, {"livemode": False}])
def test_another_organization_or_mode_finds_nothing(catalog_db, coming, other):
    upload = coming()
    handlers.expect_upload(catalog_db, upload)

    with pytest.raises(NotFound):
        find(catalog_db, upload, **other)


@pytest.mark.parametrize("other", [{"org_id": "org_second"}, {"livemode": False}])
def test_another_organization_or_mode_fulfils_nothing(catalog_db, coming, an_upload, other):
    upload = coming()
    handlers.expect_upload(catalog_db, upload)

    handlers.register_asset(catalog_db, dataclasses.replace(an_upload(**other), asset_id=upload.upload_id))

    assert find(catalog_db, upload)["asset_id"] is None


def test_it_is_fulfilled_by_the_asset_that_has_its_id(catalog_db, coming, an_upload):
    asset = an_upload()
    upload = coming(upload_id=asset.asset_id)
    handlers.expect_upload(catalog_db, upload)

    handlers.register_asset(catalog_db, asset)

    assert find(catalog_db, upload)["asset_id"] == asset.asset_id


def test_it_is_fulfilled_by_the_same_picture_of_before(catalog_db, coming, an_asset, an_upload):
    before = an_asset(picture=b"the same")
    asset = an_upload(picture=b"the same")
    upload = coming(upload_id=asset.asset_id)
    handlers.expect_upload(catalog_db, upload)

    handlers.register_asset(catalog_db, asset)

    assert find(catalog_db, upload)["asset_id"] == before.asset_id


def test_what_was_never_completed_is_collected_when_its_time_is_over(catalog_db, store, coming):
    over = coming()
    handlers.expect_upload(catalog_db, over)
    store.put(key=over.key, chunks=b"sent and forgotten", content_type="image/jpeg")
    time_is_over(catalog_db)
    waiting = coming()
    handlers.expect_upload(catalog_db, waiting)
    store.put(key=waiting.key, chunks=b"just sent", content_type="image/jpeg")

    collected = handlers.collect_expected(catalog_db, store)

    assert collected == 1
    assert (store.stat(over.key), store.stat(waiting.key) is None) == (None, False)
    with pytest.raises(NotFound):
        find(catalog_db, over)
    assert find(catalog_db, waiting)
    assert handlers.collect_expected(catalog_db, store) == 0


def test_it_is_gone_for_callers_before_the_sweep_comes_by(catalog_db, coming):
    upload = coming()
    handlers.expect_upload(catalog_db, upload)

    time_is_over(catalog_db)

    with pytest.raises(NotFound):
        find(catalog_db, upload)


def test_what_is_sent_after_completion_changes_no_asset_and_is_collected(catalog_db, store, coming, an_upload):
    """The link is good for a while yet, but leads to a place of its own that nobody reads any more."""
    asset = an_upload()
    sent = coming(upload_id=asset.asset_id)
    handlers.expect_upload(catalog_db, sent)
    handlers.register_asset(catalog_db, asset)
    before = store.measure(asset.key)
    store.put(key=sent.key, chunks=b"sent once more", content_type="image/jpeg")
    time_is_over(catalog_db)

    assert handlers.collect_expected(catalog_db, store) == 1

    assert store.measure(asset.key) == before
    assert list(store.keys()) == [asset.key]


def test_a_deleted_upload_takes_what_was_sent_for_it_along(catalog_db, store, coming, an_upload):
    """The gateway died before it could delete the file as it came, with the place where the photo was taken."""
    face = an_upload(purpose="face", keep_original=True)
    sent = coming(upload_id=face.asset_id, purpose="face", keep_original=True)
    handlers.expect_upload(catalog_db, sent)
    store.put(key=sent.key, chunks=b"as it came", content_type="image/jpeg")
    handlers.register_asset(catalog_db, face)

    handlers.delete_asset(catalog_db, store, org_id="org_first", livemode=True, asset_id=face.asset_id)

    assert list(store.keys()) == []


def test_what_ends_by_itself_takes_what_was_sent_for_it_along(catalog_db, store, coming, an_upload):
    face = an_upload(purpose="face")
    sent = coming(upload_id=face.asset_id, purpose="face")
    handlers.expect_upload(catalog_db, sent)
    store.put(key=sent.key, chunks=b"as it came", content_type="image/jpeg")
    handlers.register_asset(catalog_db, face)
    with catalog_db.transaction() as session:
        session.execute(sa.text("UPDATE assets SET delete_after = now()"))

    assert handlers.remove_due(catalog_db, store) == 1

    assert list(store.keys()) == []


@pytest.mark.parametrize("fields", [{}, {"purpose": "face"}, {"purpose": "face", "keep_original": True}])
def test_a_link_ends_before_what_it_brought_is_collected_so_that_nothing_comes_afterwards(catalog_db, coming, fields):
    handlers.expect_upload(catalog_db, coming(**fields))

    expires, collected = times(catalog_db)

    assert collected - expires >= 15  # minutes; a request that is let in has 30 s


@pytest.fixture
def announced(catalog_db, coming):
    """As many open uploads as an organization may have."""
    uploads = [coming() for _ in range(100)]
    for upload in uploads:
        handlers.expect_upload(catalog_db, upload)
    return uploads


def test_one_more_than_an_organization_may_have_open_is_refused(catalog_db, coming, announced):
    with pytest.raises(LimitExceeded, match="100 uploads are announced") as refusal:
        handlers.expect_upload(catalog_db, coming())

    assert refusal.value.extra == {"limit": 100, "excess": 1}
    assert handlers.expect_upload(catalog_db, announced[0])["id"] == announced[0].upload_id
    assert handlers.expect_upload(catalog_db, coming(org_id="org_second"))
    assert handlers.expect_upload(catalog_db, coming(livemode=False))


def test_one_that_was_completed_makes_room_for_another(catalog_db, coming, announced, an_upload):
    done = announced[0].upload_id
    handlers.register_asset(
        catalog_db, dataclasses.replace(an_upload(), asset_id=done, key=f"assets/org_first/{done}.jpg")
    )

    handlers.expect_upload(catalog_db, coming())

    with pytest.raises(LimitExceeded):
        handlers.expect_upload(catalog_db, coming())


@pytest.mark.usefixtures("announced")
def test_those_whose_links_have_expired_make_room_and_are_swept(catalog_db, store, coming):
    with catalog_db.transaction() as session:
        session.execute(sa.text("UPDATE expected_uploads SET expires_at = now()"))

    handlers.expect_upload(catalog_db, coming())

    time_is_over(catalog_db)
    assert handlers.collect_expected(catalog_db, store) == 101


def test_of_many_announced_at_once_no_more_than_the_limit_are_taken(catalog_db, coming):
    for _ in range(95):
        handlers.expect_upload(catalog_db, coming())

    def announce(_):
        try:
            handlers.expect_upload(catalog_db, coming())
        except LimitExceeded:
            return 0
        return 1

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(announce, range(20)))

    assert taken == 5


def test_collecting_leaves_the_asset_that_was_made_of_it(catalog_db, store, coming, an_upload):
    asset = an_upload()
    handlers.expect_upload(catalog_db, coming(upload_id=asset.asset_id))
    handlers.register_asset(catalog_db, asset)
    time_is_over(catalog_db)

    handlers.collect_expected(catalog_db, store)

    assert store.stat(asset.key) is not None
    with catalog_db.transaction(org_id="org_first", livemode=True) as session:
        assert queries.asset(session, org_id="org_first", livemode=True, asset_id=asset.asset_id)


def test_while_the_store_is_down_nothing_is_forgotten(catalog_db, coming, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    handlers.expect_upload(catalog_db, coming())
    time_is_over(catalog_db)
    fake = FakeS3()
    fake.answers = [503] * 10

    with fake.running() as endpoint:
        store = S3Store(bucket="darkroom", endpoint=endpoint, region="us-east-1")
        assert handlers.collect_expected(catalog_db, store) == 0
        fake.answers.clear()
        assert handlers.collect_expected(catalog_db, store) == 1
