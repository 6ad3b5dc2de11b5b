"""Revisions of views: exactly one current of each, whoever makes them, whatever order and however often they come."""

import random
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.catalog import handlers, product_handlers
from shared import problems
from shared.events import ProductViewAdded
from shared.ids import new_id
from tests.service.catalog.outbox import told
from tests.service.catalog.steps import (
    OWNER,
    a_picture,
    a_product,
    a_renewal,
    created,
    deleted,
    looked_up,
    revisions_of,
    told_to_catalog,
    viewed,
)


@pytest.fixture
def product_id(catalog_db):
    return created(catalog_db)["id"]


@pytest.fixture
def a_view(catalog_db, an_asset, product_id):
    """Upload a picture and make it a revision of the product."""

    def make(view_type="front"):
        return viewed(catalog_db, product_id, a_picture(an_asset(purpose="product"), view_type=view_type))

    return make


def current(db, product_id):
    """Return the current revision of each view, having looked that there is one of each and no other."""
    of_each = {}
    for row in revisions_of(db, product_id, limit=200)["data"]:
        if row["is_current"]:
            assert row["view_type"] not in of_each
            of_each[row["view_type"]] = row
    shown = looked_up(db, product_id)["views"]
    assert {row["view_type"]: row for row in shown} == of_each
    return of_each


def test_an_upload_becomes_a_revision_with_all_that_is_known_of_it(catalog_db, an_asset, product_id):
    upload = an_asset(purpose="product")

    view = viewed(catalog_db, product_id, a_picture(upload, view_type="back"))

    assert (view["product_id"], view["view_type"], view["version"], view["is_current"]) == (
        product_id,
        "back",
        1,
        True,
    )
    assert (view["source"], view["upload_id"], view["image_id"]) == ("upload", upload.asset_id, None)
    assert (view["key"], view["sha256"], view["bytes"], view["width"], view["height"]) == (
        upload.key,
        upload.sha256,
        upload.bytes,
        800,
        600,
    )
    assert view["thumbnail_key"] == f"assets/org_first/{upload.asset_id}.thumb.jpg"
    (event,) = told(catalog_db, ProductViewAdded)
    assert (event.revision_id, event.product_id, event.asset_id, event.user_id) == (
        view["id"],
        product_id,
        upload.asset_id,
        "usr_1",
    )


def test_each_view_counts_its_versions_and_has_one_current_revision(catalog_db, a_view, product_id):
    for view_type in ("front", "back", "front", "front"):
        a_view(view_type)

    rows = revisions_of(catalog_db, product_id)["data"]
    assert [
        (row["view_type"], row["version"], row["is_current"]) for row in sorted(rows, key=lambda row: row["id"])
    ] == [
        ("front", 1, False),
        ("back", 1, True),
        ("front", 2, False),
        ("front", 3, True),
    ]
    assert [row["view_type"] for row in looked_up(catalog_db, product_id)["views"]] == ["front", "back"]


def test_a_new_view_leaves_the_version_of_the_product_alone(catalog_db, a_view, product_id):
    a_view()

    assert looked_up(catalog_db, product_id)["version"] == 1


def test_a_product_shows_the_thumbnail_of_its_front_and_without_one_that_of_another_view(
    catalog_db, a_view, product_id
):
    back = a_view("back")
    without_front = looked_up(catalog_db, product_id)["thumbnail_key"]
    front = a_view("front")

    assert without_front == back["thumbnail_key"]
    assert looked_up(catalog_db, product_id)["thumbnail_key"] == front["thumbnail_key"]


def test_a_revision_made_again_under_its_id_is_the_same_and_told_of_once(catalog_db, an_asset, product_id):
    picture = a_picture(an_asset(purpose="product"))
    first = viewed(catalog_db, product_id, picture)

    again = viewed(catalog_db, product_id, picture)

    assert again == first
    assert len(told(catalog_db, ProductViewAdded)) == 1


def test_the_id_of_a_revision_stands_for_nothing_else(catalog_db, an_asset, product_id):
    picture = a_picture(an_asset(purpose="product"))
    viewed(catalog_db, product_id, picture)
    other = a_picture(an_asset(purpose="product"), revision_id=picture.revision_id)

    with pytest.raises(problems.Conflict):
        viewed(catalog_db, product_id, other)


@pytest.mark.parametrize("theirs", [{"org_id": "org_second"}, {"livemode": False}])
def test_the_upload_of_another_organization_or_mode_becomes_no_view(catalog_db, an_asset, product_id, theirs):
    upload = an_asset(purpose="product", **theirs)

    with pytest.raises(problems.NotFound):
        viewed(catalog_db, product_id, a_picture(upload))

    assert revisions_of(catalog_db, product_id)["data"] == []


def test_a_product_of_another_organization_gets_no_view(catalog_db, an_asset, product_id):
    with pytest.raises(problems.NotFound):
        viewed(catalog_db, product_id, a_picture(an_asset(org_id="org_second")), org_id="org_second")


def test_an_upload_that_goes_by_itself_becomes_no_view_and_one_that_is_kept_does(catalog_db, an_asset, product_id):
    face, kept = an_asset(purpose="face"), an_asset(purpose="face", keep_original=True)

    with pytest.raises(problems.BadRequest) as refused:
        viewed(catalog_db, product_id, a_picture(face))
    shown = viewed(catalog_db, product_id, a_picture(kept))

    assert refused.value.extra["errors"][0]["pointer"] == "/upload_id"
    assert shown["upload_id"] == kept.asset_id


def test_a_product_whose_picture_is_refused_is_not_made(catalog_db):
    new = a_product(picture=a_picture(type("Gone", (), {"org_id": "org_first", "asset_id": new_id("ast")})))

    with pytest.raises(problems.NotFound):
        product_handlers.create_product(catalog_db, new)

    with pytest.raises(problems.NotFound):
        looked_up(catalog_db, new.product_id)
    assert told(catalog_db, ProductViewAdded) == []


def test_an_upload_is_not_deleted_while_a_product_shows_it_and_is_once_the_product_is_gone(
    catalog_db, store, an_asset, product_id
):
    upload = an_asset(purpose="product")
    viewed(catalog_db, product_id, a_picture(upload))

    with pytest.raises(problems.UploadInUse) as refused:
        handlers.delete_asset(catalog_db, store, **OWNER, asset_id=upload.asset_id)
    kept = store.stat(upload.key)
    deleted(catalog_db, product_id)
    handlers.delete_asset(catalog_db, store, **OWNER, asset_id=upload.asset_id)

    assert refused.value.extra["product_ids"] == [product_id]
    assert kept is not None
    assert store.stat(upload.key) is None


def test_the_thumbnail_goes_with_the_upload(catalog_db, store, an_asset, product_id):
    upload = an_asset(purpose="product")
    picture = a_picture(upload)
    store.put(key=picture.thumbnail_key, chunks=b"small", content_type="image/jpeg")
    viewed(catalog_db, product_id, picture)
    deleted(catalog_db, product_id)

    handlers.delete_asset(catalog_db, store, **OWNER, asset_id=upload.asset_id)

    assert store.stat(picture.thumbnail_key) is None


def test_of_an_upload_that_is_shown_and_deleted_at_once_one_wins_and_nothing_is_left_dangling(
    catalog_db, store, an_asset
):
    for _ in range(8):
        upload, product = an_asset(purpose="product"), created(catalog_db)["id"]
        outcomes = {}

        def run(name, work, outcomes=outcomes):
            try:
                outcomes[name] = work()
            except problems.Problem as error:
                outcomes[name] = error

        shows = threading.Thread(
            target=run,
            args=("shown", lambda upload=upload, product=product: viewed(catalog_db, product, a_picture(upload))),
        )
        deletes = threading.Thread(
            target=run,
            args=(
                "deleted",
                lambda upload=upload: handlers.delete_asset(catalog_db, store, **OWNER, asset_id=upload.asset_id),
            ),
        )
        for thread in (shows, deletes):
            thread.start()
        for thread in (shows, deletes):
            thread.join()

        refused = [name for name, outcome in outcomes.items() if isinstance(outcome, problems.Problem)]
        assert len(refused) == 1
        assert (store.stat(upload.key) is not None) == (refused == ["deleted"])


def test_a_view_that_was_made_anew_is_the_next_revision_and_the_current_one(catalog_db, a_view, product_id):
    before = a_view()
    event = a_renewal(product_id, revision_id=before["id"], asked=timedelta(minutes=1))

    told_to_catalog(catalog_db, event)

    view = current(catalog_db, product_id)["front"]
    assert (view["version"], view["source"], view["parent_id"]) == (2, "generation", before["id"])
    assert (view["upload_id"], view["image_id"], view["generation_id"]) == (
        None,
        event.images[0].image_id,
        event.generation_id,
    )
    assert (view["key"], view["thumbnail_key"], view["sha256"], view["width"]) == (
        event.renewed_view.key,
        event.renewed_view.thumbnail_key,
        "1" * 64,
        640,
    )
    added = told(catalog_db, ProductViewAdded)[-1]
    assert (added.revision_id, added.is_current, added.user_id) == (view["id"], True, "usr_3")
    assert (added.meta.causation_id, added.meta.correlation_id) == (event.meta.id, "req_1")


def test_a_generation_that_is_told_of_again_adds_nothing(catalog_db, product_id):
    event = a_renewal(product_id)
    told_to_catalog(catalog_db, event)

    told_to_catalog(catalog_db, event)
    told_to_catalog(catalog_db, event, event)
    told_to_catalog(catalog_db, a_renewal(product_id, generation_id=event.generation_id))

    assert len(revisions_of(catalog_db, product_id)["data"]) == 1
    assert len(told(catalog_db, ProductViewAdded)) == 1


def test_an_older_generation_that_arrives_late_is_kept_and_does_not_become_the_current_one(catalog_db, product_id):
    newer, older = a_renewal(product_id, asked=timedelta(minutes=2)), a_renewal(product_id)

    told_to_catalog(catalog_db, newer)
    told_to_catalog(catalog_db, older)

    assert current(catalog_db, product_id)["front"]["generation_id"] == newer.generation_id
    late = told(catalog_db, ProductViewAdded)[-1]
    assert (late.generation_id, late.version, late.is_current) == (older.generation_id, 2, False)


def test_a_generation_does_not_undo_a_picture_that_was_uploaded_after_it_was_asked_for(catalog_db, a_view, product_id):
    event = a_renewal(product_id, asked=timedelta(minutes=-5))
    uploaded = a_view()

    told_to_catalog(catalog_db, event)

    assert current(catalog_db, product_id)["front"]["id"] == uploaded["id"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_order_generations_arrive_in_and_however_often_the_end_is_the_same(catalog_db, product_id, seed):
    shuffled = random.Random(seed)  # noqa: S311  an order of messages, no secret
    events = [
        a_renewal(product_id, view_type=view_type, asked=timedelta(seconds=second))
        for second, view_type in enumerate(["front", "back", "front", "back", "front", "top"])
    ]
    deliveries = events * 2
    shuffled.shuffle(deliveries)

    while deliveries:
        size = shuffled.randint(1, 4)
        told_to_catalog(catalog_db, *deliveries[:size])
        deliveries = deliveries[size:]

    assert {view_type: row["generation_id"] for view_type, row in current(catalog_db, product_id).items()} == {
        "front": events[4].generation_id,
        "back": events[3].generation_id,
        "top": events[5].generation_id,
    }
    assert len(revisions_of(catalog_db, product_id)["data"]) == 6


def test_many_that_add_to_one_view_at_once_leave_one_current_revision(catalog_db, an_asset, product_id):
    events = [a_renewal(product_id, asked=timedelta(hours=1, seconds=second)) for second in range(6)]
    pictures = [a_picture(an_asset(purpose="product")) for _ in range(4)]
    works = [threading.Thread(target=told_to_catalog, args=(catalog_db, event)) for event in events]
    works += [threading.Thread(target=viewed, args=(catalog_db, product_id, picture)) for picture in pictures]

    for work in works:
        work.start()
    for work in works:
        work.join()

    assert current(catalog_db, product_id)["front"]["generation_id"] == events[-1].generation_id
    rows = revisions_of(catalog_db, product_id)["data"]
    assert sorted(row["version"] for row in rows) == list(range(1, 11))


@pytest.mark.parametrize(
    "fields",
    [
        {"org_id": "org_second"},
        {"livemode": False},
        {"images": []},
        {"product_id": "prd_unknown"},
        {"product_id": None},
    ],
)
def test_what_is_of_another_or_of_nothing_adds_no_view(catalog_db, product_id, fields):
    told_to_catalog(catalog_db, a_renewal(**{"product_id": product_id, **fields}))

    assert revisions_of(catalog_db, product_id)["data"] == []
    assert told(catalog_db, ProductViewAdded) == []


def test_what_comes_for_a_product_that_was_deleted_adds_no_view(catalog_db, product_id):
    deleted(catalog_db, product_id)

    told_to_catalog(catalog_db, a_renewal(product_id))

    assert told(catalog_db, ProductViewAdded) == []


def test_a_generation_that_makes_no_view_leaves_no_trace(catalog_db, product_id):
    told_to_catalog(catalog_db, a_renewal(product_id, renewed_view=None))

    with catalog_db.transaction() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM inbox")) == 0


def test_a_list_of_revisions_is_cut_into_pages_and_by_view(catalog_db, a_view, product_id):
    made = [a_view(view_type)["id"] for view_type in ("front", "front", "back")]
    page = revisions_of(catalog_db, product_id, limit=2)

    rest = revisions_of(catalog_db, product_id, limit=2, after=page["next_cursor"])

    assert sorted(row["id"] for row in page["data"] + rest["data"]) == sorted(made)
    assert (page["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert [row["id"] for row in revisions_of(catalog_db, product_id, view_type="back")["data"]] == made[2:]


def test_the_database_itself_refuses_a_second_current_revision(catalog_db, a_view):
    a_view()
    a_view()

    with pytest.raises(IntegrityError), catalog_db.transaction() as session:
        session.execute(sa.text("UPDATE product_views SET is_current = true"))
