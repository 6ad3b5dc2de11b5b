"""A catalogue over the real stack: products and the pictures that show them."""

import io
from concurrent.futures import ThreadPoolExecutor
from zoneinfo import ZoneInfo

import PIL.Image
import pytest
import requests

from darkroom_client import Conflict, Darkroom, NotFound
from darkroom_client.models import Activity
from tests.e2e.steps import NewClient, NewDarkroom, post
from tests.pictures import a_picture
from tests.polling import until

pytestmark = pytest.mark.stack


def a_photo(darkroom: Darkroom, colour: str) -> str:
    return darkroom.uploads.create(a_picture(colour=colour), purpose="product").id


def fetched(url: str) -> PIL.Image.Image:
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    return PIL.Image.open(io.BytesIO(answer.content))


def test_a_product_is_shown_from_its_sides_and_each_side_has_one_current_picture(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(0)
    first, second = a_photo(darkroom, "green"), a_photo(darkroom, "navy")
    chair = darkroom.products.create("Oak chair", sku="DSK-001", category="chairs", upload_id=first)

    back = darkroom.products.add_view(chair.id, view_type="back", upload_id=first)
    newer = darkroom.products.add_view(chair.id, view_type="front", upload_id=second)

    found = darkroom.products.get(chair.id)
    assert [(view.view_type, view.version, view.upload_id) for view in found.views] == [
        ("front", 2, second),
        ("back", 1, first),
    ]
    fronts = list(darkroom.products.views(chair.id, view_type="front"))
    assert [(view.id, view.is_current) for view in fronts] == [(newer.id, True), (chair.views[0].id, False)]
    assert found.version == chair.version
    whole, small = fetched(back.url), fetched(newer.thumbnail_url)
    assert (whole.size, max(small.size)) == ((back.width, back.height), 512)


def test_ten_products_with_their_pictures_are_one_sentence_by_the_readers_clock(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(0)
    for number in range(10):
        darkroom.products.create(f"Chair {number}", upload_id=a_photo(darkroom, f"rgb({number * 25}, 90, 90)"))

    def told() -> Activity | None:
        newest = next(darkroom.events.activity(timezone="America/New_York"), None)
        return newest if newest and newest.count == 30 else None

    line = until(told, seconds=30, what="all of it in the activity")

    local = line.time.astimezone(ZoneInfo("America/New_York"))
    clock = f"{local:%I:%M %p}".lstrip("0")
    assert line.text == f"Somebody uploaded 10 product photos and added 10 products and 10 views at {clock}"


def test_another_system_is_kept_in_step_by_sku(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(0)
    photo = a_photo(darkroom, "green")
    rows = [(f"SKU {number}", f"Chair {number}", "chairs" if number % 2 else "desks") for number in range(6)]

    def night() -> list[tuple[str, int, int]]:
        put = [darkroom.products.put(sku, name, category=kind, upload_id=photo) for sku, name, kind in rows]
        return [(each.id, each.version, each.views[0].version) for each in put]

    first, again = night(), night()
    changed = darkroom.products.put("SKU 1", "Armchair")

    assert again == first
    assert [(version, view) for _, version, view in first] == [(1, 1)] * 6
    assert (changed.id, changed.version, changed.category) == (first[1][0], 2, None)
    assert {each.sku for each in darkroom.products.list(category="chairs", page_size=1)} == {"SKU 3", "SKU 5"}
    assert [each.name for each in darkroom.products.list(sku="SKU 1")] == ["Armchair"]
    assert darkroom.me.get().product_count == 6


def test_what_others_may_have_changed_is_changed_only_as_it_was_seen(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(0)
    chair = darkroom.products.create("Oak chair")
    darkroom.products.update(chair.id, version=chair.version, name="Ash chair")

    with pytest.raises(Conflict) as stale:
        darkroom.products.update(chair.id, version=chair.version, name="Elm chair")
    with pytest.raises(Conflict):
        darkroom.products.delete(chair.id, version=chair.version)

    assert stale.value.extra["current"]["name"] == "Ash chair"
    darkroom.products.delete(chair.id, version=2)
    with pytest.raises(NotFound):
        darkroom.products.get(chair.id)


def test_a_sku_is_taken_once_however_many_ask_at_once(new_client: NewClient) -> None:
    client = new_client(0)

    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: post(client, "/v1/products", {"name": "Oak chair", "sku": "DSK-001"}), range(8))
        )

    made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert len(made) == 1
    assert len(refused) == 7
    assert {(each["code"], each["product_id"]) for each in refused} == {("sku_taken", made[0])}


def test_a_picture_stays_while_a_product_shows_it(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(0)
    photo = a_photo(darkroom, "green")
    chair = darkroom.products.create("Oak chair", sku="DSK-001", upload_id=photo)

    with pytest.raises(Conflict) as refused:
        darkroom.uploads.delete(photo)
    shown = fetched(chair.views[0].url)
    darkroom.products.delete(chair.id)
    darkroom.uploads.delete(photo)

    assert (refused.value.code, refused.value.extra["product_ids"]) == ("upload_in_use", [chair.id])
    assert shown.size == (chair.views[0].width, chair.views[0].height)
    assert requests.get(chair.views[0].url, timeout=10).status_code == 404
    assert darkroom.products.create("Another chair", sku="DSK-001").views == []


def test_live_keys_and_test_keys_each_have_products_of_their_own(new_darkroom: NewDarkroom) -> None:
    live = new_darkroom(0)
    secret = live.api_keys.create("CI", livemode=False).secret
    mine = live.products.create("Oak chair", sku="DSK-001")

    with Darkroom(secret, base_url=live.base_url) as testing:
        theirs = testing.products.create("Test chair", sku="DSK-001")
        with pytest.raises(NotFound):
            testing.products.get(mine.id)

        assert [each.id for each in testing.products.list()] == [theirs.id]
    assert [each.id for each in live.products.list()] == [mine.id]
    assert (mine.livemode, theirs.livemode) == (True, False)
