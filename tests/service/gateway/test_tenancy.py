"""Every route of the document: closed without a credential, and blind to what belongs to another organization."""

from copy import deepcopy

import pytest

from shared.ids import new_id
from tests import open_operations
from tests.service.gateway.conftest import DOCUMENT
from tests.service.gateway.people import everything_kept, invite, join

OPEN = {name.partition(" ")[2] for name in open_operations.OPERATIONS}
OPERATIONS = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if path not in OPEN]
OF_ADMINISTRATORS = [(method, path) for method, path in OPERATIONS if path.startswith(("/v1/admin", "/api/admin"))]
# A SKU is the organization's own word: it leads to a thing of its own, or to none, whoever else uses it as well.
NAMED = [("PUT", "/v1/products/by-sku/{sku}")]
WITH_ID = [(method, path) for method, path in OPERATIONS if "{" in path and (method, path) not in NAMED]
# Whose address has a signature of ours, and whose requests one of the provider's: see test_webhooks_in.
OF_PROVIDERS = [("POST", "/v1/webhooks-in/{provider}")]
OF_ORGANIZATIONS = [operation for operation in WITH_ID if operation not in [*OF_ADMINISTRATORS, *OF_PROVIDERS]]
BODIES = {
    "/v1/admin/organizations/{org_id}/grants": {"amount": 5, "kind": "purchased", "reason": "an order"},
    "/v1/admin/organizations/{org_id}/adjustments": {"amount": -5, "reason": "a mistake"},
    "/v1/admin/organizations/{org_id}/plan": {"plan": "free"},
    "/v1/admin/organizations/{org_id}/flags": {"name": "csv_export", "enabled": True},
    "/v1/admin/jobs/{job_id}/refund": {"reason": "blurred"},
    "/api/admin/headshots/{job_id}/refund": {"reason": "blurred"},
    "/v1/admin/organizations/{org_id}/share": {"weight": 2},
    "/v1/jobs/{job_id}/retry": {},
    "/api/headshots/{job_id}/retry": {},
    "/v1/members/{user_id}": {"role": "viewer"},
    "/v1/api-keys/{key_id}/rotate": {},
    "/v1/webhook-endpoints/{endpoint_id}": {"description": "mine now"},
    "/v1/webhook-endpoints/{endpoint_id}/rotate": {},
    "/v1/webhook-endpoints/{endpoint_id}/replay": {"after": "0"},
    "/v1/products/{product_id}": {"name": "Mine"},
    "/api/products/{product_id}": {"name": "Mine"},
    "/v1/products/{product_id}/views": {"view_type": "front", "upload_id": new_id("ast")},
    "/v1/staging-sessions/{staging_session_id}": {"name": "Oak Lane 2"},
    "/v1/staging-sessions/{staging_session_id}/empty-rooms": {"retry_number": 0},
    "/v1/staging-sessions/{staging_session_id}/selection": {"image_id": new_id("img")},
    "/v1/staging-sessions/{staging_session_id}/lock": {},
    "/v1/staging-sessions/{staging_session_id}/stagings": {"style": "modern", "room_type": "bedroom"},
    "/v1/styles/{style_id}": {"name": "Mine"},
    "/v1/tech-packs/{product_id}/category": {},
    "/v1/tech-packs/{product_id}/base-views": {},
    "/v1/tech-packs/{product_id}/close-ups": {},
    "/v1/tech-packs/{product_id}/sketches": {},
    "/v1/tech-packs/{product_id}/regenerations": {"image_id": new_id("img")},
    "/v1/revisions/{revision_id}/edits": {"field_path": "summary", "prompt": "Set it to short"},
    "/v1/revisions/{revision_id}/regenerations": {},
}


def kept(services):
    """Return a copy of what the services behind have of organizations."""
    things = (services.assets, services.jobs, services.images, services.products, services.sessions, services.styles)
    return deepcopy((*things, services.headshots, services.endpoints))


def everything_of(services, db):
    """Return a copy of what there is of organizations, here and in the services behind."""
    return kept(services), everything_kept(db)


@pytest.fixture
def ids_of_another(client, services, an_organization, a_staging):
    """Give one id of each kind that belongs to somebody else."""
    org_id, headers = an_organization(name="Somebody else")
    body = a_staging(org_id)
    job = client.post("/v1/stagings", json=body, headers={**headers, "Idempotency-Key": "k"}).json
    services.finish(job["id"])
    user_id, person = join(client, headers, "else@example.com", role="owner")
    endpoint = client.post("/v1/webhook-endpoints", json={"url": "https://example.com"}, headers=headers)
    services.assets[body["upload_id"]]["thumbnail_key"] = "assets/known.thumb.jpg"
    chair = {"name": "A chair", "sku": "DSK-001", "upload_id": body["upload_id"]}
    product = client.post("/v1/products", json=chair, headers=headers).json
    room = {"upload_id": body["upload_id"], "room_state": "generate_empty"}
    style = {"name": "Theirs", "base": "modern"}
    return {
        "{endpoint_id}": endpoint.json["id"],
        "{product_id}": product["id"],
        "{revision_id}": product["views"][0]["id"],
        "{staging_session_id}": client.post("/v1/staging-sessions", json=room, headers=headers).json["id"],
        "{style_id}": client.post("/v1/styles", json=style, headers=headers).json["id"],
        "{upload_id}": body["upload_id"],
        "{job_id}": job["id"],
        "{image_id}": next(iter(services.images)),
        "{headshot_id}": next(iter(services.headshots)),
        "{user_id}": user_id,
        "{invitation_id}": invite(client, headers, "more@example.com")["id"],
        "{key_id}": client.get("/v1/api-keys", headers=headers).json["data"][0]["id"],
        "{session_id}": client.get("/v1/auth/sessions", headers=person).json["data"][0]["id"],
    }


@pytest.fixture
def person(client, studio):
    """Give the headers of an owner who is logged in: one who may use every route of an organization."""
    return join(client, studio[1], role="owner")[1]


def test_the_document_lists_the_routes_that_are_open():
    assert {
        path for path, item in DOCUMENT["paths"].items() if not any(one["security"] for one in item.values())
    } == OPEN


def test_no_credential_opens_nothing(client):
    statuses = {
        (method, path): client.open(path.replace("{", "").replace("}", ""), method=method).status_code
        for method, path in OPERATIONS
    }

    assert len(statuses) >= 15
    assert set(statuses.values()) == {401}


def test_what_belongs_to_another_is_not_there(client, services, gateway_db, person, ids_of_another):
    before = everything_of(services, gateway_db)

    answers = {}
    for method, path in OF_ORGANIZATIONS:
        address = path
        for placeholder, thing_id in ids_of_another.items():
            address = address.replace(placeholder, thing_id)
        assert "{" not in address
        headers = {**person, "Idempotency-Key": new_id("key")}
        answers[method, path] = client.open(address, method=method, json=BODIES.get(path), headers=headers)

    assert {answer.status_code for answer in answers.values()} == {404}
    assert {answer.json["code"] for answer in answers.values()} == {"not_found"}
    assert everything_of(services, gateway_db) == before


def test_every_operation_that_names_a_thing_of_ones_own_is_there():
    assert set(NAMED) <= set(OPERATIONS)


def test_the_sku_of_another_stands_for_nothing_of_theirs(client, services, person, ids_of_another):
    theirs = dict(services.products[ids_of_another["{product_id}"]])

    made = client.put("/v1/products/by-sku/DSK-001", json={"name": "Mine"}, headers=person)

    assert made.status_code == 201
    assert made.json["id"] != theirs["id"]
    assert services.products[theirs["id"]] == theirs


def test_what_is_no_id_is_not_there_either(client, person):
    no_ids = ["1", "job_1", new_id("job"), new_id("key"), "..%2f..", "%00", "a" * 300]
    addresses = [
        (method, path.partition("{")[0] + no_id + path.partition("}")[2], BODIES.get(path))
        for method, path in OF_ORGANIZATIONS
        for no_id in no_ids
    ]

    statuses = {
        client.open(path, method=method, json=body, headers={**person, "Idempotency-Key": new_id("key")}).status_code
        for method, path, body in addresses
    }

    assert statuses == {404}


def test_what_administrators_may_do_no_key_of_an_organization_may(client, services, studio):
    org_id, headers = studio
    headers = {**headers, "Idempotency-Key": "k"}
    before = dict(services.wallets)

    answers = [
        client.open(path.replace("{org_id}", org_id), method=method, json=BODIES.get(path), headers=headers)
        for method, path in OF_ADMINISTRATORS
    ]

    assert {answer.status_code for answer in answers} == {403}
    assert (services.wallets, services.plans, services.moved) == (before, {}, {})


@pytest.mark.parametrize("thing_id", ["1", new_id("org"), new_id("job"), new_id("img"), "%00", "a" * 300])
def test_what_is_not_there_is_not_there_for_administrators_either(client, services, admin, thing_id):
    headers = {**admin, "Idempotency-Key": "k"}

    statuses = {
        client.open(
            path.partition("{")[0] + thing_id + path.partition("}")[2],
            method=method,
            json=BODIES.get(path),
            headers=headers,
        ).status_code
        for method, path in OF_ADMINISTRATORS
        if "{" in path
    }

    assert statuses == {404}
    assert (services.wallets, services.plans, services.moved) == ({}, {}, {})


def test_the_history_of_an_image_of_another_is_not_there(client, services, studio, ids_of_another):
    for path in ("/v1/credits/entries", "/v1/credits/entries.csv"):
        answer = client.get(f"{path}?image={ids_of_another['{image_id}']}", headers=studio[1])

        assert answer.status_code == 404
    assert services.credits.asked("entries") == []


def test_credits_is_always_asked_about_the_organization_of_the_key(client, services, studio, ids_of_another):
    org_id, headers = studio
    job_id = ids_of_another["{job_id}"]
    services.credits.calls.clear()

    for path in ("/v1/credits", "/v1/usage", f"/v1/credits/entries?job={job_id}", "/v1/credits/entries.csv"):
        assert client.get(path, headers=headers).status_code == 200
    client.put("/v1/plan", json={"plan": "free"}, headers=headers)

    assert len(services.credits.calls) == 5
    assert {arguments["org_id"] for _, arguments in services.credits.calls} == {org_id}
    assert services.plans == {org_id: "free"}


@pytest.mark.usefixtures("ids_of_another")
def test_the_lists_of_one_hold_nothing_of_another(client, studio):
    paths = ("jobs", "images", "invitations", "events", "webhook-endpoints", "products", "staging-sessions", "styles")
    for path in (f"/v1/{name}" for name in paths):
        assert client.get(path, headers=studio[1]).json["data"] == []
    for path in ("/v1/members", "/v1/api-keys"):
        assert len(client.get(path, headers=studio[1]).json["data"]) == 1  # the first owner, and the first key


def test_a_job_on_an_upload_of_another_is_not_accepted(client, services, studio, ids_of_another):
    body = {"upload_id": ids_of_another["{upload_id}"], "style": "modern", "room_type": "bedroom"}

    answer = client.post("/v1/stagings", json=body, headers={**studio[1], "Idempotency-Key": "mine"})

    assert answer.status_code == 404
    assert len(services.jobs) == 1


@pytest.mark.usefixtures("ids_of_another")
def test_the_organization_is_never_taken_from_the_request(client, services, studio):
    other = next(iter(services.jobs.values()))["org_id"]
    headers = {**studio[1], "X-Org-Id": other, "X-Organization": other}

    client.get("/v1/credits", headers=headers)

    assert services.credits.asked("balance")[-1] == {"org_id": studio[0]}
