"""Products through the client: what is said of them goes out whole, versions as conditions, lists page by page."""

import json
from typing import Any

import pytest

from darkroom_client import Conflict
from tests.clients.answers import TIME, a_page, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted

VIEW: dict[str, Any] = {
    "id": "rev_1",
    "product_id": "prd_1",
    "view_type": "front",
    "version": 2,
    "is_current": True,
    "source": "generation",
    "upload_id": None,
    "image_id": "img_1",
    "generation_id": "gen_1",
    "parent_id": "rev_0",
    "url": "https://files.example/one?signature=secret",
    "thumbnail_url": "https://files.example/small?signature=secret",
    "content_type": "image/jpeg",
    "bytes": 10,
    "width": 4,
    "height": 3,
    "sha256": "0" * 64,
    "created_at": TIME,
    "livemode": True,
}
PRODUCT: dict[str, Any] = {
    "id": "prd_1",
    "name": "Oak chair",
    "sku": "DSK 001",
    "category": None,
    "room_types": ["kitchen"],
    "description": None,
    "metadata": {"weight_kg": 7.5, "sold": False, "source": None},
    "thumbnail_url": None,
    "views": [VIEW],
    "version": 3,
    "created_at": TIME,
    "updated_at": TIME,
    "livemode": True,
}


def test_a_product_is_made_with_all_that_is_said_of_it(play: Play) -> None:
    darkroom, server = play(None, Scripted(status=201, body=PRODUCT))

    made = darkroom.products.create(
        "Oak chair", sku="DSK 001", room_types=("kitchen",), metadata={"weight_kg": 7.5}, upload_id="ast_1"
    )

    assert (made.id, made.metadata, made.views[0].view_type) == ("prd_1", PRODUCT["metadata"], "front")
    assert "secret" not in repr(made)
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
    assert json.loads(server.asked[1].body) == {
        "name": "Oak chair",
        "sku": "DSK 001",
        "category": None,
        "room_types": ["kitchen"],
        "description": None,
        "metadata": {"weight_kg": 7.5},
        "upload_id": "ast_1",
    }


def test_a_sku_stands_in_the_address_as_it_is(play: Play) -> None:
    darkroom, server = play(Scripted(body=PRODUCT))

    darkroom.products.put("DSK 001#a", "Oak chair")

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("PUT", "/v1/products/by-sku/DSK%20001%23a")
    assert "sku" not in json.loads(asked.body)


def test_a_product_is_changed_and_deleted_only_in_the_version_that_was_seen(play: Play) -> None:
    darkroom, server = play(
        Scripted(body=PRODUCT),
        a_problem(412, "precondition_failed", current=PRODUCT),
        Scripted(status=204),
    )

    darkroom.products.update("prd_1", category=None)
    with pytest.raises(Conflict) as stale:
        darkroom.products.update("prd_1", version=2, name="Ash chair")
    darkroom.products.delete("prd_1", version=3)

    assert [asked.headers.get("If-Match") for asked in server.asked] == [None, '"2"', '"3"']
    assert json.loads(server.asked[0].body) == {"category": None}
    assert stale.value.extra["current"]["version"] == 3


def test_the_holder_of_a_sku_is_told(play: Play) -> None:
    darkroom, _ = play(a_problem(409, "sku_taken", product_id="prd_9"))

    with pytest.raises(Conflict) as refused:
        darkroom.products.create("Oak chair", sku="DSK-001")

    assert (refused.value.code, refused.value.extra["product_id"]) == ("sku_taken", "prd_9")


def test_lists_go_through_all_pages(play: Play) -> None:
    darkroom, server = play(a_page(PRODUCT, after="prd_1/2"), a_page(PRODUCT), a_page(VIEW))

    found = list(darkroom.products.list(category="chairs", page_size=1))
    (view,) = darkroom.products.views("prd_1", view_type="front")

    assert len(found) == 2
    assert (view.parent_id, view.image_id) == ("rev_0", "img_1")
    assert [asked.query.get("after") for asked in server.asked] == [None, "prd_1/2", None]
    assert server.asked[1].query["category"] == "chairs"


def test_a_picture_is_added_as_a_view(play: Play) -> None:
    darkroom, server = play(Scripted(status=201, body=VIEW))

    view = darkroom.products.add_view("prd_1", view_type="front", upload_id="ast_1")

    assert view.version == 2
    assert json.loads(server.asked[0].body) == {"view_type": "front", "upload_id": "ast_1"}
