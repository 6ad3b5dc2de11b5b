"""Products over HTTP: made, listed, changed as they were seen, shown from their sides."""

import io

import PIL.Image
import pytest

from shared.ids import is_id, new_id
from shared.problems import Unavailable
from shared.storage import StorageUnavailable

EVERYTHING = {
    "name": "Oak chair",
    "sku": "DSK-001",
    "category": "chairs",
    "room_types": ["dining_room", "kitchen"],
    "description": "Solid oak.\n\tOiled.",
    "metadata": {"importedAt": "2026-01-01", "weight_kg": 7.5, "pieces": 1, "sold": False, "source": None},
}


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def a_photo(services, store, org_id):
    """Store a picture as an upload and give its id."""

    def make(*, size=(1600, 800), **fields):
        file = io.BytesIO()
        PIL.Image.new("RGB", size, "navy").save(file, "JPEG")
        asset_id = new_id("ast")
        stored = store.put(key=f"assets/{org_id}/{asset_id}.jpg", chunks=file.getvalue(), content_type="image/jpeg")
        services.catalog.register_asset(
            **{
                "asset_id": asset_id,
                "org_id": org_id,
                "livemode": True,
                "purpose": "product",
                "key": stored.key,
                "content_type": "image/jpeg",
                "bytes": stored.bytes,
                "sha256": stored.sha256,
                "width": size[0],
                "height": size[1],
                **fields,
            }
        )
        return asset_id

    return make


def thumbnail(store, org_id, upload_id):
    return PIL.Image.open(io.BytesIO(b"".join(store.open(f"assets/{org_id}/{upload_id}.thumb.jpg"))))


def small_pictures(store):
    stored = list(store.keys())
    return [key for key in stored if "thumb" in key]


def test_a_product_is_made_and_looked_up(client, headers):
    made = client.post("/v1/products", json=EVERYTHING, headers=headers)

    found = client.get(made.headers["Location"], headers=headers)

    assert (made.status_code, found.status_code) == (201, 200)
    assert found.json == made.json
    assert is_id(made.json["id"], prefix="prd")
    assert made.json.items() >= EVERYTHING.items()
    assert (made.json["version"], made.json["views"], made.json["thumbnail_url"]) == (1, [], None)
    assert "org_id" not in made.json


def test_a_name_is_all_a_product_needs(client, headers):
    nothing = {"sku": None, "category": None, "description": None, "upload_id": None}

    made = client.post("/v1/products", json={"name": "Oak chair"}, headers=headers).json
    likewise = client.post("/v1/products", json={"name": "Oak chair", **nothing}, headers=headers).json

    assert {**likewise, "id": made["id"]} == made
    assert (made["sku"], made["category"], made["room_types"], made["metadata"]) == (None, None, [], {})


def test_texts_are_taken_as_they_are_typed_elsewhere(client, headers):
    said = {"name": "オーク\u3000椅子", "category": "Chaises\u00a0hautes", "description": "Oak, oiled.\r\n\t5\u00a0kg"}

    made = client.post("/v1/products", json=said, headers=headers)

    assert made.status_code == 201
    assert made.json.items() >= said.items()


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": " \u3164"}, "/name"),
        ({"name": "a" * 201}, "/name"),
        ({"name": "a\x07b"}, "/name"),
        ({"name": "a\u202eb"}, "/name"),
        ({"sku": ""}, "/sku"),
        ({"sku": "A/B"}, "/sku"),
        ({"sku": "-A"}, "/sku"),
        ({"sku": "A "}, "/sku"),
        ({"sku": "A" * 65}, "/sku"),
        ({"sku": "Ä1"}, "/sku"),
        ({"sku": "A\n"}, "/sku"),
        ({"category": "c" * 101}, "/category"),
        ({"category": "a\nb"}, "/category"),
        ({"room_types": "kitchen"}, "/room_types"),
        ({"room_types": ["Kitchen"]}, "/room_types/0"),
        ({"room_types": ["kitchen", "kitchen"]}, "/room_types"),
        ({"room_types": [f"room_{number}" for number in range(21)]}, "/room_types"),
        ({"description": "d" * 5001}, "/description"),
        ({"description": "a\x07b"}, "/description"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {f"name {number}": 1 for number in range(51)}}, "/metadata"),
        ({"metadata": {"": 1}}, "/metadata/"),
        ({"metadata": {"n" * 41: 1}}, "/metadata/" + "n" * 41),
        ({"metadata": {"a/b": [1]}}, "/metadata/a~1b"),
        ({"metadata": {"deep": {"a": 1}}}, "/metadata/deep"),
        ({"metadata": {"long": "t" * 501}}, "/metadata/long"),
        ({"metadata": {"bell": "a\x07b"}}, "/metadata/bell"),
        ({"metadata": {"large": 2**53}}, "/metadata/large"),
        ({"upload_id": "ast_1"}, "/upload_id"),
        ({"id": "prd_1"}, "/id"),
        ({"version": 7}, "/version"),
    ],
)
def test_what_a_product_cannot_be_is_told_by_its_place(client, headers, services, said, pointer):
    answer = client.post("/v1/products", json={"name": "Oak chair", **said}, headers=headers)

    assert (answer.status_code, {error["pointer"] for error in answer.json["errors"]}) == (400, {pointer})
    assert services.products == {}


def test_a_product_is_made_once_however_often_the_request_comes(client, headers, services):
    keyed = {**headers, "Idempotency-Key": "one chair"}

    first, again = (client.post("/v1/products", json=EVERYTHING, headers=keyed) for _ in range(2))

    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(services.products) == 1


def test_a_request_whose_answer_was_lost_goes_on_with_the_same_ids(client, headers, services, a_photo):
    keyed, body = {**headers, "Idempotency-Key": "one chair"}, {**EVERYTHING, "upload_id": a_photo()}
    really = services.catalog.methods["create_product"]

    def lost(**product):
        really(**product)
        raise Unavailable("The catalog did not answer in time.", retry_after=1)

    services.catalog.methods["create_product"] = lost
    first = client.post("/v1/products", json=body, headers=keyed)
    services.catalog.methods["create_product"] = really
    again = client.post("/v1/products", json=body, headers=keyed)

    assert (first.status_code, again.status_code) == (503, 201)
    one, other = services.catalog.asked("create_product")
    assert one == other
    assert len(services.products[again.json["id"]]["views"]) == 1


def test_the_sku_of_another_product_is_refused_with_that_product(client, headers, a_product):
    holder = a_product(headers, sku="DSK-001")

    answer = client.post("/v1/products", json=EVERYTHING, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (409, "sku_taken")
    assert answer.json["product_id"] == holder["id"]


def test_an_upload_becomes_the_front_of_a_new_product_with_a_small_picture(client, headers, org_id, store, a_photo):
    upload_id = a_photo()

    made = client.post("/v1/products", json={**EVERYTHING, "upload_id": upload_id}, headers=headers).json

    (view,) = made["views"]
    assert (view["view_type"], view["upload_id"], view["is_current"]) == ("front", upload_id, True)
    assert view["id"] == made["id"].replace("prd_", "rev_")
    assert f"/files/assets/{org_id}/{upload_id}.jpg?" in view["url"]
    assert f"/files/assets/{org_id}/{upload_id}.thumb.jpg?" in view["thumbnail_url"]
    assert made["thumbnail_url"] == view["thumbnail_url"]
    small = thumbnail(store, org_id, upload_id)
    assert (small.format, small.size) == ("JPEG", (512, 256))


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_product_whose_picture_is_not_there_is_not_made(client, headers, services, method):
    path = {"POST": "/v1/products", "PUT": "/v1/products/by-sku/DSK-001"}[method]

    answer = client.open(path, method=method, json={"name": "Oak chair", "upload_id": new_id("ast")}, headers=headers)

    assert answer.status_code == 404
    assert services.products == {}


def test_of_a_picture_that_is_deleted_by_itself_not_even_a_small_one_is_made(client, headers, store, a_photo):
    upload_id = a_photo(purpose="face", delete_after="2099-01-01T00:00:00Z")

    answer = client.post("/v1/products", json={"name": "Oak chair", "upload_id": upload_id}, headers=headers)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/upload_id")
    assert small_pictures(store) == []


def test_a_small_picture_that_is_there_is_not_made_again(client, headers, services, store, a_photo):
    known = a_photo(thumbnail_key="assets/known.thumb.jpg")

    made = client.post("/v1/products", json={"name": "Oak chair", "upload_id": known}, headers=headers)

    assert made.status_code == 201
    assert services.catalog.asked("create_product")[0]["picture"]["thumbnail_key"] == "assets/known.thumb.jpg"
    assert small_pictures(store) == []


def test_while_the_store_is_down_no_product_with_a_picture_is_made(
    client, headers, gateway, services, a_photo, monkeypatch
):
    upload_id = a_photo()

    def down(*_args, **_options):
        raise StorageUnavailable("the store does not answer")

    monkeypatch.setattr(gateway.store, "put", down)

    answer = client.post("/v1/products", json={"name": "Oak chair", "upload_id": upload_id}, headers=headers)

    assert answer.status_code == 503
    assert services.products == {}


def test_products_are_listed_by_what_is_asked_for(client, headers, services, a_product):
    a_product(headers, **{**EVERYTHING, "sku": "A"})
    a_product(headers, name="Desk", category="desks", sku="B")

    page = client.get("/v1/products?category=chairs&room_type=kitchen&sku=A&limit=7", headers=headers).json

    assert [each["sku"] for each in page["data"]] == ["A"]
    assert (page["page"], page["has_more"]) == (1, False)
    asked = services.catalog.asked("products")[0]
    assert (asked["limit"], asked["after"], asked["category"]) == (7, None, "chairs")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "category=", "room_type=Kitchen", "sku=A/B", "q=chair"])
def test_a_list_that_cannot_be_is_refused(client, headers, query):
    assert client.get(f"/v1/products?{query}", headers=headers).status_code == 400


def test_a_product_is_put_by_its_sku(client, headers, services):
    body = {name: value for name, value in EVERYTHING.items() if name != "sku"}

    made = client.put("/v1/products/by-sku/DSK-001 a.b:c+d", json=body, headers=headers)
    again = client.put("/v1/products/by-sku/DSK-001 a.b:c+d", json={"name": "Ash chair"}, headers=headers)

    assert (made.status_code, again.status_code) == (201, 200)
    assert made.headers["Location"] == f"/v1/products/{made.json['id']}"
    assert (made.json["sku"], again.json["id"]) == ("DSK-001 a.b:c+d", made.json["id"])
    assert len(services.products) == 1


def test_minus_nothing_is_nothing(client, headers):
    put = client.put("/v1/products/by-sku/A", json={"name": "Oak chair", "metadata": {"kg": -0.0}}, headers=headers)

    assert str(put.json["metadata"]["kg"]) == "0.0"


@pytest.mark.parametrize("sku", ["-A", "a" * 65, "A%20", "%C3%84"])
def test_what_cannot_be_a_sku_is_refused(client, headers, services, sku):
    answer = client.put(f"/v1/products/by-sku/{sku}", json={"name": "Oak chair"}, headers=headers)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/sku")
    assert services.products == {}


def test_a_product_keeps_its_sku(client, headers, a_product):
    product = a_product(headers, sku="DSK-001")

    answer = client.patch(f"/v1/products/{product['id']}", json={"sku": "DSK-002"}, headers=headers)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/sku")
    assert "keeps its SKU" in answer.json["detail"]


def test_what_is_changed_is_changed_and_the_rest_stays(client, headers, a_product):
    product = a_product(headers, **EVERYTHING)

    changed = client.patch(
        f"/v1/products/{product['id']}", json={"category": None, "metadata": {}}, headers=headers
    ).json

    assert (changed["category"], changed["metadata"], changed["name"]) == (None, {}, "Oak chair")
    assert changed["version"] == 2


def test_a_product_is_changed_only_as_it_was_seen(client, headers, a_product):
    path = f"/v1/products/{a_product(headers)['id']}"
    tag = client.get(path, headers=headers).headers["ETag"]
    matching = {**headers, "If-Match": tag}

    first = client.patch(path, json={"name": "Ash chair"}, headers=matching)
    stale = client.patch(path, json={"name": "Elm chair"}, headers=matching)
    seen = client.patch(path, json={"name": "Elm chair"}, headers={**headers, "If-Match": stale.json["etag"]})

    assert (first.status_code, stale.status_code, seen.status_code) == (200, 412, 200)
    assert stale.json["current"]["name"] == "Ash chair"


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_product_that_is_changed_after_it_was_compared_stays_as_it_is(client, headers, services, a_product, method):
    path = f"/v1/products/{a_product(headers)['id']}"
    tag = client.get(path, headers=headers).headers["ETag"]
    name = {"PATCH": "change_product", "DELETE": "delete_product"}[method]
    really, change = services.catalog.methods[name], services.catalog.methods["change_product"]

    def after_another(**asked):
        change(**{**asked, "versions": None, "changes": {"name": "Theirs"}})
        return really(**asked)

    services.catalog.methods[name] = after_another
    body = {"name": "Mine"} if method == "PATCH" else None

    answer = client.open(path, method=method, json=body, headers={**headers, "If-Match": tag})

    assert (answer.status_code, answer.json["current"]["name"]) == (412, "Theirs")
    assert client.get(path, headers=headers).json["name"] == "Theirs"


def test_a_product_is_deleted_only_as_it_was_seen(client, headers, a_product):
    path = f"/v1/products/{a_product(headers)['id']}"
    tag = client.get(path, headers=headers).headers["ETag"]

    stale = client.delete(path, headers={**headers, "If-Match": '"9-other"'})
    without_version = client.delete(path, headers={**headers, "If-Match": '"other"'})
    seen = client.delete(path, headers={**headers, "If-Match": tag})

    assert (stale.status_code, without_version.status_code, seen.status_code) == (412, 412, 204)
    assert client.get(path, headers=headers).status_code == 404


def test_a_look_at_what_has_not_changed_is_answered_with_304(client, headers, a_product, a_photo):
    path = f"/v1/products/{a_product(headers)['id']}"
    tag = client.get(path, headers=headers).headers["ETag"]

    unchanged = client.get(path, headers={**headers, "If-None-Match": tag})
    client.post(f"{path}/views", json={"view_type": "back", "upload_id": a_photo()}, headers=headers)
    changed = client.get(path, headers={**headers, "If-None-Match": tag})

    assert (unchanged.status_code, changed.status_code) == (304, 200)


def test_a_picture_is_added_as_a_revision_and_listed(client, headers, org_id, store, a_product, a_photo):
    path = f"/v1/products/{a_product(headers)['id']}/views"
    upload_id = a_photo(size=(300, 600))

    added = client.post(path, json={"view_type": "back", "upload_id": upload_id}, headers=headers)
    listed = client.get(path, headers=headers).json["data"]
    fronts = client.get(f"{path}?view_type=front", headers=headers).json["data"]

    assert added.status_code == 201
    assert is_id(added.json["id"], prefix="rev")
    assert (added.json["view_type"], added.json["source"], added.json["width"]) == ("back", "upload", 300)
    assert [view["id"] for view in listed] == [added.json["id"]]
    assert fronts == []
    assert thumbnail(store, org_id, upload_id).size == (256, 512)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"view_type": "inside"}, "/view_type"),
        ({"upload_id": "img_1"}, "/upload_id"),
        ({"thumbnail_key": "assets/theirs.jpg"}, "/thumbnail_key"),
    ],
)
def test_what_cannot_be_a_view_is_refused(client, headers, a_product, a_photo, body, pointer):
    path = f"/v1/products/{a_product(headers)['id']}/views"

    answer = client.post(path, json={"view_type": "front", "upload_id": a_photo(), **body}, headers=headers)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)


def test_for_a_product_that_is_not_there_no_picture_is_worked_on(client, headers, store, a_photo):
    body = {"view_type": "front", "upload_id": a_photo()}

    answer = client.post(f"/v1/products/{new_id('prd')}/views", json=body, headers=headers)

    assert answer.status_code == 404
    assert small_pictures(store) == []


def test_the_first_page_and_ones_own_page_count_the_products(client, headers, services, a_product):
    a_product(headers)
    before = client.get("/v1/me", headers=headers).json["product_count"]
    total = client.get("/v1/dashboard", headers=headers).json["products"]["total"]
    services.catalog.down = True

    unknown = client.get("/v1/me", headers=headers)

    assert (before, total) == (1, 1)
    assert (unknown.status_code, unknown.json["product_count"]) == (200, None)


def test_while_the_catalog_is_down_that_is_said(client, headers, services):
    services.catalog.down = True

    answer = client.get("/v1/products", headers=headers)

    assert (answer.status_code, answer.json["retryable"]) == (503, True)
