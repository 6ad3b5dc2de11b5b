"""Products: made, found, changed and deleted, each organization's and mode's its own."""

import threading

import pytest
import sqlalchemy as sa

from services.catalog import product_handlers, product_queries, queries
from shared import problems
from shared.events import ProductChanged, ProductDeleted, ProductViewAdded
from shared.ids import new_id
from tests.polling import until
from tests.service.catalog.outbox import told
from tests.service.catalog.steps import (
    OWNER,
    a_picture,
    a_product,
    changed,
    created,
    deleted,
    listed,
    looked_up,
)

SAID = {
    "name": "Oak chair",
    "sku": "DSK-001",
    "category": "chairs",
    "room_types": ["office", "living_room"],
    "description": "With arms.",
    "metadata": {"importedAt": "2026-01-01", "weight_kg": 7.5, "source": None, "sold": True},
}
OTHERS = [{"org_id": "org_second", "livemode": True}, {"org_id": "org_first", "livemode": False}]


def at_once(*works):
    """Do all of it at the same time; return each result, or what it raised."""
    results = [None] * len(works)

    def run(place, work):
        try:
            results[place] = work()
        except Exception as error:  # noqa: BLE001  it is the result
            results[place] = error

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_product_is_found_as_it_was_described(catalog_db):
    made = created(catalog_db, **SAID)

    found = looked_up(catalog_db, made["id"])

    assert found == made
    assert found.items() >= SAID.items()
    assert (found["version"], found["livemode"], found["views"], found["thumbnail_key"]) == (1, True, [], None)
    assert found["created_at"] == found["updated_at"]


def test_of_a_new_product_is_told_who_made_it_and_what_it_is(catalog_db):
    made = created(catalog_db, **SAID)

    (event,) = told(catalog_db, ProductChanged)

    assert (event.product_id, event.org_id, event.user_id, event.change) == (
        made["id"],
        "org_first",
        "usr_1",
        "created",
    )
    assert (event.sku, event.category, event.room_types, event.version) == (
        "DSK-001",
        "chairs",
        ["office", "living_room"],
        1,
    )


def test_a_product_made_again_under_its_id_is_the_same_and_told_of_once(catalog_db):
    new = a_product(**SAID)
    first = product_handlers.create_product(catalog_db, new)

    again = product_handlers.create_product(catalog_db, new)

    assert again == first
    assert len(told(catalog_db)) == 1


@pytest.mark.parametrize("other", OTHERS)
def test_a_product_of_another_organization_or_mode_is_not_there(catalog_db, other):
    theirs = created(catalog_db, **SAID)

    with pytest.raises(problems.NotFound):
        looked_up(catalog_db, theirs["id"], **other)
    with pytest.raises(problems.NotFound):
        deleted(catalog_db, theirs["id"], **other)
    with pytest.raises(problems.NotFound):
        product_handlers.change_product(
            catalog_db, **other, product_id=theirs["id"], user_id=None, changes={"name": "Mine"}
        )
    assert listed(catalog_db, **other) == {
        "data": [],
        "has_more": False,
        "next_cursor": None,
        "total": 0,
        "page": 1,
    }
    assert looked_up(catalog_db, theirs["id"]) == theirs


def test_the_walls_hold_for_a_query_that_forgets_to_ask_whose_it_is(catalog_db, an_asset):
    picture = a_picture(an_asset(purpose="product"))
    created(catalog_db, picture=picture)

    for scope in OTHERS:
        with catalog_db.transaction(**scope) as session:
            assert session.scalar(sa.text("SELECT count(*) FROM products")) == 0
            assert session.scalar(sa.text("SELECT count(*) FROM product_views")) == 0
    with catalog_db.transaction(**OWNER) as session:
        assert session.scalar(sa.text("SELECT count(*) FROM product_views")) == 1


def test_a_sku_stands_for_one_product(catalog_db):
    holder = created(catalog_db, sku="DSK-001")

    with pytest.raises(problems.SkuTaken) as refused:
        created(catalog_db, sku="DSK-001")

    assert refused.value.extra["product_id"] == holder["id"]
    assert "DSK-001" in refused.value.detail
    assert len(told(catalog_db, ProductChanged)) == 1


def test_any_number_of_products_have_no_sku(catalog_db):
    assert created(catalog_db)["sku"] is created(catalog_db)["sku"] is None


@pytest.mark.parametrize("other", OTHERS)
def test_another_organization_or_mode_may_use_the_same_sku(catalog_db, other):
    created(catalog_db, sku="DSK-001")

    theirs = product_handlers.create_product(catalog_db, a_product(**other, sku="DSK-001"))

    assert theirs["sku"] == "DSK-001"


def test_of_many_who_take_a_sku_at_once_one_gets_it(catalog_db):
    results = at_once(*[lambda: created(catalog_db, sku="DSK-001") for _ in range(6)])

    refusals = [each for each in results if isinstance(each, problems.SkuTaken)]
    assert len(refusals) == 5
    assert len(told(catalog_db, ProductChanged)) == 1


def test_the_id_of_another_organizations_product_is_not_given_away(catalog_db):
    theirs = created(catalog_db)
    mine = a_product(product_id=theirs["id"], org_id="org_second", name="Mine")

    with pytest.raises(problems.Conflict):
        product_handlers.create_product(catalog_db, mine)

    assert looked_up(catalog_db, theirs["id"])["name"] == "Oak chair"


def test_a_change_raises_the_version_and_is_told(catalog_db):
    made = created(catalog_db, **SAID)

    shown = changed(catalog_db, made["id"], name="Ash chair", category=None, metadata={})

    assert (shown["name"], shown["category"], shown["metadata"], shown["version"]) == ("Ash chair", None, {}, 2)
    assert (shown["sku"], shown["room_types"]) == ("DSK-001", ["office", "living_room"])
    assert shown["updated_at"] > shown["created_at"]
    assert looked_up(catalog_db, made["id"]) == shown
    event = told(catalog_db, ProductChanged)[-1]
    assert (event.change, event.user_id, event.name, event.version) == ("updated", "usr_2", "Ash chair", 2)


def test_a_change_to_what_it_is_already_is_none(catalog_db):
    made = created(catalog_db, **SAID)

    shown = changed(catalog_db, made["id"], name="Oak chair", metadata=SAID["metadata"])

    assert shown == made
    assert len(told(catalog_db)) == 1


def test_a_one_that_becomes_true_is_a_change(catalog_db):
    made = created(catalog_db, metadata={"sold": 1})

    assert changed(catalog_db, made["id"], metadata={"sold": True})["metadata"]["sold"] is True
    assert looked_up(catalog_db, made["id"])["version"] == 2


def test_what_was_seen_in_another_version_is_neither_changed_nor_deleted(catalog_db):
    made = created(catalog_db)
    changed(catalog_db, made["id"], versions=[1], name="Ash chair")

    with pytest.raises(problems.PreconditionFailed):
        changed(catalog_db, made["id"], versions=[1], name="Elm chair")
    with pytest.raises(problems.PreconditionFailed):
        deleted(catalog_db, made["id"], versions=[1])

    assert looked_up(catalog_db, made["id"])["name"] == "Ash chair"
    assert told(catalog_db, ProductDeleted) == []


def test_of_many_who_change_the_version_all_saw_one_does(catalog_db):
    made = created(catalog_db)
    names = [f"Chair {number}" for number in range(6)]

    results = at_once(*[lambda name=name: changed(catalog_db, made["id"], versions=[1], name=name) for name in names])

    assert sum(isinstance(each, problems.PreconditionFailed) for each in results) == 5
    assert looked_up(catalog_db, made["id"])["version"] == 2


def test_a_deleted_product_is_gone_and_that_is_told_once(catalog_db):
    made = created(catalog_db, sku="DSK-001")

    deleted(catalog_db, made["id"])
    deleted(catalog_db, made["id"])

    with pytest.raises(problems.NotFound):
        looked_up(catalog_db, made["id"])
    with pytest.raises(problems.NotFound):
        changed(catalog_db, made["id"], name="Ash chair")
    assert listed(catalog_db)["total"] == 0
    (event,) = told(catalog_db, ProductDeleted)
    assert (event.product_id, event.user_id, event.sku) == (made["id"], "usr_2", "DSK-001")


def test_a_product_that_was_deleted_is_not_made_again_by_a_request_that_comes_late(catalog_db):
    new = a_product()
    product_handlers.create_product(catalog_db, new)
    deleted(catalog_db, new.product_id)

    with pytest.raises(problems.NotFound):
        product_handlers.create_product(catalog_db, new)


def test_the_sku_of_a_deleted_product_is_free(catalog_db):
    deleted(catalog_db, created(catalog_db, sku="DSK-001")["id"])

    assert created(catalog_db, sku="DSK-001")["version"] == 1


def test_an_unknown_product_cannot_be_deleted(catalog_db):
    with pytest.raises(problems.NotFound):
        deleted(catalog_db, new_id("prd"))


def test_a_list_goes_through_every_product_once_the_newest_first(catalog_db):
    made = sorted((created(catalog_db, name=f"Chair {number}")["id"] for number in range(5)), reverse=True)
    seen, pages, after = [], [], None

    while True:
        page = listed(catalog_db, limit=2, after=after)
        seen += [each["id"] for each in page["data"]]
        pages.append((page["page"], page["total"]))
        after = page["next_cursor"]
        if not page["has_more"]:
            break

    assert seen == made
    assert pages == [(1, 5), (2, 5), (3, 5)]
    assert after is None


@pytest.mark.parametrize("after", ["prd_1", "prd_1/", "prd_1/x", "prd_1/1/2", "prd_1/" + "9" * 40])
def test_what_is_no_place_in_the_list_is_refused(catalog_db, after):
    with pytest.raises(problems.BadRequest) as refused:
        listed(catalog_db, after=after)

    assert refused.value.extra["errors"][0]["pointer"] == "/query/after"


def test_a_list_is_of_one_category_type_of_room_or_sku(catalog_db):
    desk = created(catalog_db, sku="A", category="desks", room_types=["office"])["id"]
    chair = created(catalog_db, sku="B", category="chairs", room_types=["office", "kitchen"])["id"]
    gone = created(catalog_db, sku="C", category="chairs", room_types=["kitchen"])["id"]
    deleted(catalog_db, gone)

    def ids(**filters):
        page = listed(catalog_db, **filters)
        assert page["total"] == len(page["data"])
        return {each["id"] for each in page["data"]}

    assert ids() == {desk, chair}
    assert ids(category="chairs") == {chair}
    assert ids(room_type="office") == {desk, chair}
    assert ids(room_type="office", category="desks") == {desk}
    assert ids(sku="B") == {chair}
    assert ids(category="chair") == ids(sku="C") == set()


def test_products_are_counted(catalog_db):
    created(catalog_db)
    deleted(catalog_db, created(catalog_db)["id"])

    with catalog_db.transaction(**OWNER) as session:
        assert product_queries.product_count(session, **OWNER) == 1


def test_a_product_is_put_by_its_sku_made_first_and_replaced_then(catalog_db):
    first = product_handlers.put_product(catalog_db, a_product(**SAID))

    second = product_handlers.put_product(catalog_db, a_product(sku="DSK-001", name="Ash chair"))

    assert (first["created"], second["created"]) == (True, False)
    assert second["product"]["id"] == first["product"]["id"]
    assert (second["product"]["name"], second["product"]["version"]) == ("Ash chair", 2)
    assert (second["product"]["category"], second["product"]["room_types"], second["product"]["metadata"]) == (
        None,
        [],
        {},
    )
    assert [event.change for event in told(catalog_db, ProductChanged)] == ["created", "updated"]


def test_what_is_put_as_it_is_already_changes_and_tells_nothing(catalog_db, an_asset):
    upload = an_asset(purpose="product")
    first = product_handlers.put_product(catalog_db, a_product(**SAID, picture=a_picture(upload)))
    before = told(catalog_db)

    second = product_handlers.put_product(catalog_db, a_product(**SAID, picture=a_picture(upload)))

    assert second == {"product": first["product"], "created": False}
    assert told(catalog_db) == before


def test_another_picture_put_with_a_product_is_the_next_revision_of_its_front(catalog_db, an_asset):
    first, second = an_asset(purpose="product"), an_asset(purpose="product")
    product_handlers.put_product(catalog_db, a_product(sku="DSK-001", picture=a_picture(first)))

    put = product_handlers.put_product(catalog_db, a_product(sku="DSK-001", picture=a_picture(second)))

    (view,) = put["product"]["views"]
    assert (view["view_type"], view["version"], view["upload_id"]) == ("front", 2, second.asset_id)
    assert put["product"]["version"] == 1
    assert [event.version for event in told(catalog_db, ProductViewAdded)] == [1, 2]


def test_many_who_put_the_same_sku_at_once_make_one_product(catalog_db):
    results = at_once(
        *[
            lambda number=number: product_handlers.put_product(
                catalog_db, a_product(sku="DSK-001", name=f"Chair {number}")
            )
            for number in range(6)
        ]
    )

    assert sum(each["created"] for each in results) == 1
    assert len({each["product"]["id"] for each in results}) == 1
    assert listed(catalog_db)["data"][0]["version"] == 6


def in_line(db, *, count):
    """Wait until so many wait for a lock."""
    waiting = sa.text(
        "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )

    def all_there():
        with db.transaction() as session:
            return session.scalar(waiting) == count

    until(all_there, seconds=5, what=f"{count} in line")


def test_a_product_that_is_deleted_while_it_is_to_be_put_is_made_anew(catalog_db):
    first = created(catalog_db, sku="DSK-001")
    results = {}
    delete = threading.Thread(target=lambda: deleted(catalog_db, first["id"]))
    put = threading.Thread(
        target=lambda: results.update(product_handlers.put_product(catalog_db, a_product(sku="DSK-001")))
    )

    with catalog_db.transaction(**OWNER) as session:
        session.execute(sa.text("SELECT FROM products WHERE sku = 'DSK-001' FOR UPDATE"))
        delete.start()
        in_line(catalog_db, count=1)
        put.start()
        in_line(catalog_db, count=2)
    delete.join()
    put.join()

    assert results["created"]
    assert [each["id"] for each in listed(catalog_db)["data"]] == [results["product"]["id"]]
    assert results["product"]["id"] != first["id"]


def test_a_job_is_told_all_it_needs_of_a_product_and_of_a_view(catalog_db, an_asset):
    upload = an_asset(purpose="product")
    made = created(catalog_db, **SAID, picture=a_picture(upload))
    revision = made["views"][0]["id"]

    with catalog_db.transaction(**OWNER) as session:
        found = queries.resolve(
            session, **OWNER, asset_ids=[upload.asset_id], product_ids=[made["id"]], revision_ids=[revision]
        )

    snapshot = {
        "id": revision,
        "product_id": made["id"],
        "view_type": "front",
        "version": 1,
        "is_current": True,
        "generation_id": None,
        "key": upload.key,
        "content_type": "image/jpeg",
        "sha256": upload.sha256,
        "bytes": upload.bytes,
        "width": 800,
        "height": 600,
    }
    assert found[revision] == snapshot
    assert found[made["id"]] == {**SAID, "id": made["id"], "views": {"front": snapshot}}
    assert found[upload.asset_id]["key"] == upload.key


@pytest.mark.parametrize("other", OTHERS)
def test_products_and_views_of_others_and_deleted_ones_resolve_for_nobody(catalog_db, an_asset, other):
    made = created(catalog_db, picture=a_picture(an_asset(purpose="product")))
    gone = created(catalog_db, picture=a_picture(an_asset(purpose="product")))
    deleted(catalog_db, gone["id"])
    wanted = [
        queries.Wanted(**other, product_ids=[made["id"]]),
        queries.Wanted(**other, revision_ids=[made["views"][0]["id"]]),
        queries.Wanted(**OWNER, product_ids=[made["id"], gone["id"]]),
        queries.Wanted(**OWNER, revision_ids=[gone["views"][0]["id"]]),
        queries.Wanted(**OWNER, product_ids=[made["id"]]),
    ]

    *refusals, found = handlers_resolve(catalog_db, wanted)

    assert [each.extra["missing"] for each in refusals] == [
        [made["id"]],
        [made["views"][0]["id"]],
        [gone["id"]],
        [gone["views"][0]["id"]],
    ]
    assert refusals[0].detail == f"No such product: {made['id']}"
    assert list(found) == [made["id"]]


def handlers_resolve(db, wanted):
    with db.transaction() as session:
        return queries.resolve_many(session, wanted)
