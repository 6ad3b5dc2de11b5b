"""Every route of the document: closed without a credential, and blind to what belongs to another organization."""

import pytest

from shared.ids import new_id
from tests.service.gateway.conftest import DOCUMENT

OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs"}
OPERATIONS = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if path not in OPEN]
WITH_ID = [(method, path) for method, path in OPERATIONS if "{" in path]


@pytest.fixture
def ids_of_another(client, services, an_organization, a_staging):
    """Give one id of each kind that belongs to somebody else."""
    org_id, headers = an_organization(name="Somebody else")
    body = a_staging(org_id)
    job = client.post("/v1/stagings", json=body, headers={**headers, "Idempotency-Key": "k"}).json
    services.finish(job["id"])
    return {"{upload_id}": body["upload_id"], "{job_id}": job["id"], "{image_id}": next(iter(services.images))}


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


def test_what_belongs_to_another_is_not_there(client, services, studio, ids_of_another):
    before = (dict(services.assets), dict(services.jobs), dict(services.images))

    answers = {}
    for method, path in WITH_ID:
        address = path
        for placeholder, thing_id in ids_of_another.items():
            address = address.replace(placeholder, thing_id)
        assert "{" not in address
        answers[method, path] = client.open(address, method=method, headers=studio[1])

    assert {answer.status_code for answer in answers.values()} == {404}
    assert {answer.json["code"] for answer in answers.values()} == {"not_found"}
    assert (services.assets, services.jobs, services.images) == before


def test_what_is_no_id_is_not_there_either(client, studio):
    no_ids = ["1", "job_1", new_id("job"), new_id("key"), "..%2f..", "%00", "a" * 300]
    addresses = [
        (method, path.partition("{")[0] + no_id + path.partition("}")[2])
        for method, path in WITH_ID
        for no_id in no_ids
    ]

    statuses = {client.open(path, method=method, headers=studio[1]).status_code for method, path in addresses}

    assert statuses == {404}


@pytest.mark.usefixtures("ids_of_another")
def test_the_lists_of_one_hold_nothing_of_another(client, studio):
    for path in ("/v1/jobs", "/v1/images"):
        assert client.get(path, headers=studio[1]).json["data"] == []


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
