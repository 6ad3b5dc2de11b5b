"""The addresses of before: each answers what the route it stands for answers, to whom that does."""

import re

import pytest

from services.gateway.service import Gateway
from shared.http import routes_of
from tests.pictures import a_picture
from tests.service.gateway.people import PASSWORD, invite, join

ALIASES = [(route, alias) for _, route in routes_of(Gateway) for alias in route.aliases]
SEED = {
    "POST /api/sessions": "POST /v1/staging-sessions",
    "GET /api/sessions": "GET /v1/staging-sessions",
    "POST /api/empty-room": "POST /v1/staging-sessions/<staging_session_id>/empty-rooms",
    "POST /api/stage": "POST /v1/staging-sessions/<staging_session_id>/stagings",
    "GET /api/replicate/status/<job_id>": "GET /v1/jobs/<job_id>/attempts",
    "GET /api/products": "GET /v1/products",
    "POST /api/products": "POST /v1/products",
    "PATCH /api/products/<product_id>": "PATCH /v1/products/<product_id>",
    "DELETE /api/products/<product_id>": "DELETE /v1/products/<product_id>",
    "POST /api/auth/signup": "POST /v1/auth/signup",
    "GET /api/settings": "GET /v1/me",
    "PATCH /api/settings": "PATCH /v1/me",
    "GET /api/jobs/<job_id>": "GET /v1/jobs/<job_id>",
    "GET /api/headshots/status/<job_id>": "GET /v1/jobs/<job_id>",
    "POST /api/headshots/generate": "POST /v1/headshots",
    "POST /api/headshots/batch": "POST /v1/headshots/batches",
    "GET /api/headshots/history": "GET /v1/headshots",
    "GET /api/headshots/favorites": "GET /v1/headshots",
    "GET /api/headshots/history/<headshot_id>": "GET /v1/headshots/<headshot_id>",
    "DELETE /api/headshots/history/<headshot_id>": "DELETE /v1/headshots/<headshot_id>",
    "POST /api/headshots/<headshot_id>/favorite": "PUT /v1/headshots/<headshot_id>/favorite",
    "DELETE /api/headshots/<headshot_id>/favorite": "DELETE /v1/headshots/<headshot_id>/favorite",
    "POST /api/headshots/<job_id>/retry": "POST /v1/jobs/<job_id>/retry",
    "POST /api/upload": "POST /v1/uploads",
    "GET /api/generated-images": "GET /v1/images",
    "GET /api/credits/history": "GET /v1/credits/entries",
    "POST /api/admin/headshots/<job_id>/refund": "POST /v1/admin/jobs/<job_id>/refund",
    "POST /api/tech-pack-v2/category/detect": "POST /v1/tech-packs/<product_id>/category",
    "POST /api/tech-pack-v2/base-views/analyze": "POST /v1/tech-packs/<product_id>/base-views",
    "POST /api/tech-pack-v2/close-ups/generate": "POST /v1/tech-packs/<product_id>/close-ups",
    "POST /api/tech-pack-v2/sketches/generate": "POST /v1/tech-packs/<product_id>/sketches",
    "POST /api/tech-pack-v2/edit": "POST /v1/revisions/<revision_id>/edits",
    "POST /api/tech-pack-v2/regenerate": "POST /v1/revisions/<revision_id>/regenerations",
}
TECH_PACKS = [alias for alias in SEED if "tech-pack" in alias]
NOT_FOR_VIEWERS = {
    "POST /api/headshots/generate",
    "POST /api/headshots/batch",
    "DELETE /api/headshots/history/<headshot_id>",
    "POST /api/headshots/<headshot_id>/favorite",
    "DELETE /api/headshots/<headshot_id>/favorite",
    "POST /api/headshots/<job_id>/retry",
    "POST /api/upload",
    "POST /api/sessions",
    "POST /api/empty-room",
    "POST /api/stage",
    "POST /api/products",
    "PATCH /api/products/<product_id>",
    "DELETE /api/products/<product_id>",
    "POST /api/admin/headshots/<job_id>/refund",
    *TECH_PACKS,
}
CHANGING = {
    "id",
    "created_at",
    "request_id",
    "instance",
    "url",
    "thumbnail_url",
    "expires_at",
    "session_token",
    "email",
    "joined_at",
    "terms_accepted_at",
}


def name_of(part):
    return f"{part.method} {part.url}"


def same(answers):
    """Return the answers without what differs from one moment to the next."""
    return [(answer.status_code, without(answer.json if answer.is_json or answer.data else None)) for answer in answers]


def without(value):
    if isinstance(value, dict):
        return {name: without(inner) for name, inner in value.items() if name not in CHANGING}
    return [without(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def ask(client):
    """Ask an alias and its route the same, with things in place of placeholders; return both answers."""

    def both(alias_name, *, ids=None, query="", options=({}, {})):
        addresses = [alias_name, SEED[alias_name]]
        answers = []
        for address, each in zip(addresses, options, strict=True):
            method, _, url = address.partition(" ")
            path = re.sub(r"<(\w+)>", lambda found: (ids or {}).get(found[1], "nothing"), url)
            answers.append(client.open(path + query, method=method, **each))
        return answers

    return both


@pytest.fixture
def a_job(client, services, studio, a_staging):
    job = client.post("/v1/stagings", json=a_staging(studio[0]), headers={**studio[1], "Idempotency-Key": "k"}).json
    services.finish(job["id"])
    return job["id"]


def test_every_address_of_before_stands_for_its_route():
    assert {name_of(alias): name_of(route) for route, alias in ALIASES} == SEED


@pytest.mark.parametrize("alias", SEED)
def test_nobody_is_answered_as_there(ask, alias):
    first, second = same(ask(alias, options=[{"json": {}}, {"json": {}}]))

    assert first == second
    assert first[0] in {400, 401}


@pytest.mark.parametrize("alias", SEED)
def test_a_viewer_may_what_the_route_lets_a_viewer_do(client, studio, ask, alias):
    _, headers = join(client, studio[1], role="viewer")

    first, second = ask(alias, options=[{"json": {}, "headers": headers}] * 2)

    assert same([first]) == same([second])
    assert (first.status_code == 403) == (alias in NOT_FOR_VIEWERS)


@pytest.mark.parametrize(
    ("alias", "query"),
    [
        ("GET /api/settings", ""),
        ("GET /api/jobs/<job_id>", ""),
        ("GET /api/headshots/status/<job_id>", ""),
        ("GET /api/generated-images", "?limit=1"),
        ("GET /api/credits/history", "?kind=hold"),
    ],
)
def test_what_is_looked_up_is_what_the_route_finds(studio, ask, a_job, alias, query):
    first, second = ask(alias, ids={"job_id": a_job}, query=query, options=[{"headers": studio[1]}] * 2)

    assert first.status_code == 200
    assert same([first]) == same([second])
    assert first.headers["ETag"] == second.headers["ETag"]


def test_the_history_of_headshots_is_asked_for_by_type(client, services, studio):
    client.get("/api/credits/history?type=headshot", headers=studio[1])
    client.get("/v1/credits/entries?product=headshot", headers=studio[1])

    first, second = services.credits.asked("entries")
    assert first == second
    assert first["product"] == "headshot"


def test_favorites_are_those_of_the_history(client, services, studio):
    answers = [client.get(f"/api/headshots/favorites{query}", headers=studio[1]) for query in ("", "?limit=1")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [(asked["favorite"], asked["limit"]) for asked in services.generation.asked("headshots")] == [
        (True, 50),
        (True, 1),
    ]


def test_whose_images_they_are_says_the_credential_and_never_the_query(
    client, services, studio, an_organization, a_job
):
    stranger, _ = an_organization(name="Somebody else")

    answer = client.get(f"/api/generated-images?clientId={stranger}", headers=studio[1])

    assert [image["job_id"] for image in answer.json["data"]] == [a_job]
    assert services.generation.asked("images")[-1]["org_id"] == studio[0]


def test_a_photo_is_taken_as_there(studio, ask):
    sent = {"data": a_picture(), "headers": {**studio[1], "Content-Type": "image/jpeg"}}

    first, second = ask("POST /api/upload", query="?purpose=inspiration", options=[sent, sent])

    assert (first.status_code, first.json["purpose"]) == (201, "inspiration")
    assert same([first]) == same([second])


def test_somebody_signs_up_and_changes_the_own_name_as_there(client, studio, ask):
    invitations = [invite(client, studio[1], f"{name}@example.com") for name in ("ada", "grace")]
    about = {"name": "A person", "password": PASSWORD, "terms_accepted": True}

    joined = ask("POST /api/auth/signup", options=[{"json": {**about, "token": one["token"]}} for one in invitations])
    headers = [{"Authorization": f"Bearer {answer.json['session_token']}"} for answer in joined]
    changed = ask("PATCH /api/settings", options=[{"json": {"name": "Other"}, "headers": each} for each in headers])

    assert (joined[0].status_code, changed[0].status_code, changed[0].json["name"]) == (201, 200, "Other")
    assert same(joined[:1]) == same(joined[1:])
    assert same(changed[:1]) == same(changed[1:])


def test_a_refund_is_given_once_under_one_key_at_each_address(ask, services, admin, a_job):
    sent = [{"json": {"reason": "blurred"}, "headers": {**admin, "Idempotency-Key": key}} for key in ("a", "b")]

    first, second = ask("POST /api/admin/headshots/<job_id>/refund", ids={"job_id": a_job}, options=sent)

    assert first.status_code == second.status_code == 200
    assert [call["job_id"] for call in services.credits.asked("refund")] == [a_job, a_job]


def test_a_key_of_one_address_is_not_that_of_another(client, admin, a_job):
    headers = {**admin, "Idempotency-Key": "a"}
    body = {"reason": "blurred"}

    client.post(f"/api/admin/headshots/{a_job}/refund", json=body, headers=headers)
    again = client.post(f"/api/admin/headshots/{a_job}/refund", json=body, headers=headers)
    elsewhere = client.post(f"/v1/admin/jobs/{a_job}/refund", json=body, headers=headers)

    assert again.headers["Idempotency-Replayed"] == "true"
    assert elsewhere.json["code"] == "idempotency_key_reused"


@pytest.fixture
def a_session(client, an_upload):
    """Begin a staging session for whoever asks, and give its id."""

    def make(org_id, headers):
        body = {"upload_id": an_upload(org_id), "room_state": "generate_empty"}
        return client.post("/v1/staging-sessions", json=body, headers=headers).json["id"]

    return make


OF_A_SESSION = {
    "/api/empty-room": ({"retryNumber": 1}, "generate_empty_room"),
    "/api/stage": ({"style": "modern", "roomType": "bedroom"}, "stage_session"),
}


@pytest.mark.parametrize("address", OF_A_SESSION)
def test_a_step_of_a_session_is_taken_as_its_clients_asked_for_it(client, services, studio, a_session, address):
    body, method = OF_A_SESSION[address]
    session_id = a_session(*studio)
    headers = {**studio[1], "Idempotency-Key": "k"}

    first, again = (client.post(address, json={"sessionId": session_id, **body}, headers=headers) for _ in range(2))

    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    (asked,) = services.generation.asked(method)
    assert asked["session_id"] == session_id
    assert asked.get("retry_number", 1) == 1
    assert asked.get("inputs", {}) in ({}, {"style": "modern", "room_type": "bedroom", "variants": 2})


@pytest.mark.parametrize("address", OF_A_SESSION)
def test_a_session_of_somebody_else_is_not_found_there(client, studio, an_organization, a_session, address):
    body, _ = OF_A_SESSION[address]
    theirs = a_session(*an_organization(name="Somebody else"))

    answer = client.post(address, json={"sessionId": theirs, **body}, headers={**studio[1], "Idempotency-Key": "k"})

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_products_are_kept_where_they_were(client, studio):
    made = client.post("/api/products", json={"name": "A cup", "sku": "C-1"}, headers=studio[1])
    address = f"/api/products/{made.json['id']}"
    changed = client.patch(address, json={"name": "A mug"}, headers=studio[1])
    listed = client.get("/api/products", headers=studio[1])
    gone = client.delete(address, headers=studio[1])

    assert [answer.status_code for answer in (made, changed, listed, gone)] == [201, 200, 200, 204]
    assert [product["name"] for product in listed.json["data"]] == ["A mug"]
    assert client.get("/v1/products", headers=studio[1]).json["data"] == []


@pytest.fixture
def a_product(client, services, an_upload):
    """Make a product with a view for whoever asks."""

    def make(org_id, headers):
        upload_id = an_upload(org_id)
        services.assets[upload_id]["thumbnail_key"] = "assets/known.thumb.jpg"
        return client.post("/v1/products", json={"name": "A cup", "upload_id": upload_id}, headers=headers).json

    return make


def of_the_first_packs(product):
    """Return what the clients of the first technical packs sent to each address, and the inputs it stands for."""
    product_id, revision_id = product["id"], product["views"][0]["id"]
    analysis = {"materials": ["stoneware"]}
    sent = {
        "category/detect": ({"productId": product_id}, {"product_id": product_id}),
        "base-views/analyze": (
            {"productId": product_id, "revisionIds": [revision_id], "category": "cup"},
            {"product_id": product_id, "revision_ids": [revision_id], "category": "cup"},
        ),
        "close-ups/generate": (
            {"productId": product_id, "baseViewAnalyses": [analysis], "category": "cup"},
            {"product_id": product_id, "category": "cup", "count": 8},
        ),
        "sketches/generate": (
            {"productId": product_id, "productAnalysis": analysis, "category": "cup"},
            {"product_id": product_id, "category": "cup"},
        ),
        "edit": (
            {"revisionId": revision_id, "fieldPath": "summary", "editPrompt": "Set it to short"},
            {"revision_id": revision_id, "field_path": "summary", "prompt": "Set it to short"},
        ),
        "regenerate": (
            {"revisionId": revision_id, "regeneratePrompt": "Lit from the left."},
            {"revision_id": revision_id, "prompt": "Lit from the left."},
        ),
    }
    return {f"POST /api/tech-pack-v2/{path}": each for path, each in sent.items()}


@pytest.mark.parametrize("alias", TECH_PACKS)
def test_a_step_of_a_technical_pack_is_taken_as_its_clients_asked_for_it(client, services, studio, a_product, alias):
    body, inputs = of_the_first_packs(a_product(*studio))[alias]
    headers = {**studio[1], "Idempotency-Key": "k"}

    first, again = (client.post(alias.partition(" ")[2], json=body, headers=headers) for _ in range(2))

    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    (asked,) = services.generation.asked("submit")
    assert asked["inputs"] == inputs


@pytest.mark.parametrize("alias", TECH_PACKS)
def test_a_body_at_an_address_of_before_does_not_reach_into_another_organization(
    client, services, studio, an_organization, a_product, alias
):
    body, _ = of_the_first_packs(a_product(*an_organization(name="Somebody else")))[alias]

    answer = client.post(alias.partition(" ")[2], json=body, headers={**studio[1], "Idempotency-Key": "k"})

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert services.generation.asked("submit") == []


@pytest.mark.parametrize("thing", [None, "", "1", "job_01jx0000000000000000000000", "../jobs", "a" * 300, 7])
@pytest.mark.parametrize("alias", TECH_PACKS)
def test_what_is_no_id_at_an_address_of_before_is_refused(client, services, studio, a_product, alias, thing):
    body, _ = of_the_first_packs(a_product(*studio))[alias]
    name = next(iter(body))

    answer = client.post(
        alias.partition(" ")[2], json={**body, name: thing}, headers={**studio[1], "Idempotency-Key": "k"}
    )

    assert answer.status_code == (404 if isinstance(thing, str) else 400)
    assert isinstance(thing, str) or answer.json["errors"][0]["pointer"] == f"/{name}"
    assert services.generation.asked("submit") == []
