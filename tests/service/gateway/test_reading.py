"""What can be looked up: images, credits, workflows, the service itself."""

from urllib.parse import parse_qs, urlsplit

import pytest

from services.gateway import docs_page
from services.gateway.routes import health
from services.gateway.service import Gateway
from shared.links import verify_link
from tests.fakes import small_picture


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def an_image(client, services, headers, org_id, a_staging):
    job = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "k"}).json
    services.finish(job["id"])
    return next(iter(services.images.values()))


def test_an_image_comes_with_addresses_that_are_good_for_an_hour(client, headers, an_image, settings):
    answer = client.get(f"/v1/images/{an_image['id']}", headers=headers)

    parts = urlsplit(answer.json["url"])
    expires_at = int(parse_qs(parts.query)["expires"][0])
    grant = verify_link(
        secret=settings.signing_secret, method="GET", key=an_image["key"], query=parts.query, now=expires_at - 3600
    )
    assert parts.path == f"/files/{an_image['key']}"
    assert grant.expires_at % 600 == 0


def test_images_are_listed_by_job(client, headers, an_image, services, org_id):
    answer = client.get(f"/v1/images?job_id={an_image['job_id']}", headers=headers)

    assert [image["id"] for image in answer.json["data"]] == [an_image["id"]]
    assert services.generation.asked("images")[-1]["job_id"] == an_image["job_id"]
    assert services.generation.asked("images")[-1]["org_id"] == org_id


def test_an_images_content_is_behind_its_signed_address(client, headers, an_image):
    answer = client.get(f"/v1/images/{an_image['id']}/content", headers=headers)

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"http://files.test/files/{an_image['key']}?expires=")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_label_is_written_on_a_copy_of_the_image(client, headers, an_image, store):
    store.put(key=an_image["key"], chunks=small_picture((120, 160, 120)), content_type="image/jpeg")

    answer = client.get(f"/v1/images/{an_image['id']}/content?label=virtually_staged", headers=headers)

    assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
    assert answer.data.startswith(b"\xff\xd8\xff")
    assert answer.data != b"".join(store.open(an_image["key"]))


def test_a_labelled_copy_that_the_client_has_is_not_made_again(client, headers, an_image, store):
    store.put(key=an_image["key"], chunks=small_picture((120, 160, 120)), content_type="image/jpeg")
    path = f"/v1/images/{an_image['id']}/content"
    tag = client.get(f"{path}?label=virtually_staged", headers=headers).headers["ETag"]
    store.delete(an_image["key"])

    again = client.get(f"{path}?label=virtually_staged", headers={**headers, "If-None-Match": tag})
    other = client.get(f"{path}?label=ai_generated", headers={**headers, "If-None-Match": tag})

    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert other.status_code == 404


def test_a_label_nobody_knows_is_refused_and_an_image_that_is_gone_is_not_there(client, headers, an_image):
    path = f"/v1/images/{an_image['id']}/content"

    unknown = client.get(f"{path}?label=whatever", headers=headers)
    gone = client.get(f"{path}?label=ai_generated", headers=headers)

    assert (unknown.status_code, unknown.json["errors"][0]["pointer"]) == (400, "/query/label")
    assert gone.status_code == 404


def test_where_an_image_comes_from_can_be_read(client, headers, an_image):
    answer = client.get(f"/v1/images/{an_image['id']}/provenance", headers=headers)

    assert [one["kind"] for one in answer.json["line"]] == ["image", "upload"]
    assert answer.json["line"][0]["made_of"] == [answer.json["line"][1]["id"]]


def test_the_wallet_and_the_prices_can_be_read(client, headers, services, org_id):
    wallet = client.get("/v1/credits", headers=headers)
    prices = client.get("/v1/pricing", headers=headers)

    assert (wallet.json["available"], wallet.json["plan"], wallet.json["quota"]["limit"]) == (100, "pro", None)
    assert wallet.json["counters"] == {"generations": 7, "credits_spent": 70}
    assert services.credits.asked("balance") == [{"org_id": org_id}]
    assert prices.json["data"][0]["sku"] == "staging.variant"


def test_workflows_come_with_the_schema_of_their_inputs(client, headers):
    [staging] = client.get("/v1/workflows", headers=headers).json["data"]

    assert staging["name"] == "staging"
    assert "scandinavian" in staging["inputs"]["properties"]["style"]["anyOf"][0]["enum"]


def test_models_come_with_their_health(client, headers):
    [model] = client.get("/v1/models", headers=headers).json["data"]

    assert (model["id"], model["health"]["status"]) == ("local-preview-1", "ok")
    assert "price" not in str(model)


def test_health_says_what_is_missing_by_name_only(client, gateway):
    ready = client.get("/readyz")
    gateway.health.register("database", lambda: "password authentication failed for user gateway")
    unready = client.get("/readyz")

    assert (ready.status_code, ready.json) == (200, {"status": "ok", "waiting_for": []})
    assert (unready.status_code, unready.json) == (503, {"status": "unready", "waiting_for": ["database"]})
    assert client.get("/healthz").status_code == 200


def test_the_document_and_its_page_load_nothing_from_elsewhere(client):
    document = client.get("/openapi.json")
    page = client.get("/docs")

    assert document.json["openapi"] == "3.1.0"
    assert set(document.json["paths"]) > {"/v1/stagings", "/v1/jobs/{job_id}", "/v1/uploads"}
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "/v1/stagings" in page.text
    assert "href='/docs/errors#insufficient_credits'" in page.text
    assert "<code>webhook-signature</code> (needed)" in page.text
    assert "<a href='#shape-JobFinishedEvent'>" in page.text
    for outside in ("http://", "https://", "<script", "src="):
        assert outside not in page.text


def test_what_is_said_of_the_service_is_made_before_it_is_asked_for(client, monkeypatch):
    Gateway.documents._build(None)  # noqa: SLF001  as nameko does at the start

    def too_late(_):
        raise AssertionError

    monkeypatch.setattr(docs_page, "render", too_late)
    monkeypatch.setattr(health, "openapi_document", too_late)

    assert client.get("/openapi.json").json["openapi"].startswith("3.1")
    assert "Darkroom" in client.get("/docs").text
