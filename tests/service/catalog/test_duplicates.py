"""The same picture sent twice: one asset, as long as both would be kept alike."""

import threading

import pytest
import sqlalchemy as sa

from services.catalog import handlers
from shared.events import AssetUploaded
from shared.times import rfc3339
from tests.service.catalog.outbox import told

PICTURE = b"one and the same picture"


def rows(db):
    with db.transaction() as session:
        return session.execute(sa.text("SELECT count(*) FROM assets")).scalar_one()


def test_the_same_picture_again_is_the_same_asset_and_says_so(catalog_db, an_upload):
    first = handlers.register_asset(catalog_db, an_upload(picture=PICTURE))

    again = handlers.register_asset(catalog_db, an_upload(picture=PICTURE, file_name="another-name.jpg"))

    assert again["id"] == first["id"]
    assert [warning["code"] for warning in again["warnings"]] == ["duplicate"]
    assert {**again, "warnings": []} == first
    assert rows(catalog_db) == 1
    assert len(told(catalog_db, AssetUploaded)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"picture": b"another picture"},
        {"org_id": "org_second"},
        {"livemode": False},
        {"purpose": "product"},
        {"purpose": "face"},
        {"purpose": "face", "keep_original": True},
    ],
)
def test_another_picture_organization_mode_purpose_or_retention_is_another_asset(catalog_db, an_upload, other):
    first = handlers.register_asset(catalog_db, an_upload(picture=PICTURE))

    second = handlers.register_asset(catalog_db, an_upload(**{"picture": PICTURE, **other}))

    assert second["id"] != first["id"]
    assert second["warnings"] == []
    assert rows(catalog_db) == 2


def test_a_face_that_goes_and_one_that_stays_are_two(catalog_db, an_upload):
    goes = handlers.register_asset(catalog_db, an_upload(picture=PICTURE, purpose="face"))
    stays = handlers.register_asset(catalog_db, an_upload(picture=PICTURE, purpose="face", keep_original=True))

    assert goes["id"] != stays["id"]
    assert (goes["delete_after"] is None, stays["delete_after"]) == (False, None)


def test_a_face_sent_again_has_an_end_of_its_own_and_leaves_that_of_the_first_as_it_was_told(catalog_db, an_upload):
    first = handlers.register_asset(catalog_db, an_upload(picture=PICTURE, purpose="face"))

    again = handlers.register_asset(catalog_db, an_upload(picture=PICTURE, purpose="face"))

    assert again["id"] != first["id"]
    assert again["warnings"] == []
    with catalog_db.transaction() as session:
        ends = session.execute(sa.text("SELECT id, delete_after FROM assets")).all()
    assert {asset_id: rfc3339(end) for asset_id, end in ends} == {
        one["id"]: one["delete_after"] for one in (first, again)
    }


def test_everybody_who_agrees_that_a_face_is_kept_is_told_of_by_name(catalog_db, store, an_upload):
    uploads = [
        an_upload(picture=PICTURE, purpose="face", keep_original=True, user_id=user_id)
        for user_id in ("usr_1", "usr_2")
    ]
    ada, grace = [handlers.register_asset(catalog_db, upload) for upload in uploads]

    handlers.delete_asset(catalog_db, store, org_id="org_first", livemode=True, asset_id=ada["id"])

    assert [one["consent"]["given_by"] for one in (ada, grace)] == ["usr_1", "usr_2"]
    assert store.stat(uploads[0].key) is None
    assert store.stat(uploads[1].key) is not None


def test_a_picture_that_was_deleted_is_new_again(catalog_db, store, an_upload):
    first = handlers.register_asset(catalog_db, an_upload(picture=PICTURE))
    handlers.delete_asset(catalog_db, store, org_id="org_first", livemode=True, asset_id=first["id"])

    second = handlers.register_asset(catalog_db, an_upload(picture=PICTURE))

    assert second["id"] != first["id"]


def test_a_repeat_of_the_second_of_two_answers_as_it_did_before(catalog_db, an_upload):
    handlers.register_asset(catalog_db, an_upload(picture=PICTURE))
    second = an_upload(picture=PICTURE)
    first_answer = handlers.register_asset(catalog_db, second)

    assert handlers.register_asset(catalog_db, second) == first_answer


def test_the_same_picture_sent_many_times_at_once_is_one_asset(catalog_db, an_upload):
    uploads = [an_upload(picture=PICTURE) for _ in range(8)]
    answers = []
    threads = [
        threading.Thread(target=lambda one=one: answers.append(handlers.register_asset(catalog_db, one)))
        for one in uploads
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 8
    assert len({answer["id"] for answer in answers}) == 1
    assert rows(catalog_db) == 1
    assert len(told(catalog_db, AssetUploaded)) == 1
