"""Every operation of the document the stack serves: closed to nobody known, blind to others', open by role and scope.

What is asked for is taken from the document, so that a route of tomorrow is asked as well; where it has an id this
test knows no thing of, the test fails until it is given one.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests import open_operations
from tests.e2e.operations import AT_ONCE, Operation, asked, document_of, of_all, operations_of
from tests.e2e.steps import NewClient, Person, an_address, finished, get, joined, post, settled
from tests.faults.client import Client, credentials, small_photo
from tests.faults.stack import Stack
from tests.polling import until

pytestmark = pytest.mark.stack

ROLES = ("owner", "editor", "viewer")
SCOPES = ("read", "write", "spend", "manage")
# These end sessions of the person who asks: each is asked by a person of its own.
ENDING = {"POST /v1/auth/logout", "DELETE /v1/auth/sessions"}
NOTHING = "nothing"
# A SKU is the organization's own word: it leads to a thing of its own, or to none, whoever else uses it as well.
SKU = "DSK-001"
NAMED = {"PUT /v1/products/by-sku/{sku}"}
# What is there still has no receipt of its deletion.
NOT_DELETED = "GET /v1/uploads/{upload_id}/deletion-receipt"
# A session, or a technical pack, is refused a step that is not its turn before anybody looks at the quote in the body.
NOT_ITS_TURN = (
    "POST /v1/staging-sessions/{staging_session_id}/stagings",
    "POST /v1/tech-packs/{product_id}/close-ups",
    "POST /v1/tech-packs/{product_id}/sketches",
    "POST /v1/revisions/{revision_id}/edits",
    "POST /v1/revisions/{revision_id}/regenerations",
)


@dataclass
class Organization:
    """An organization with one thing of each kind, by the name the document has for its id."""

    client: Client
    person: Person
    ids: dict[str, str]


@pytest.fixture(scope="module")
def document(stack: Stack) -> dict[str, Any]:
    return document_of(credentials(stack.home)["gateway_url"])


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    found = operations_of(document)
    assert len(found) > 50
    return found


@pytest.fixture
def nobody(stack: Stack) -> Client:
    return Client(gateway_url=credentials(stack.home)["gateway_url"], api_key="")


@pytest.fixture
def ours(new_client: NewClient) -> Organization:
    return with_one_of_each(new_client(100))


@pytest.fixture
def others(new_client: NewClient) -> Organization:
    return with_one_of_each(new_client(100))


def with_one_of_each(client: Client) -> Organization:
    upload_id = sent_to_the_store(client)
    staging = {"upload_id": upload_id, "style": "modern", "room_type": "bedroom", "variants": 1}
    job = finished(client, post(client, "/v1/stagings", staging).json()["id"])
    unfinished = a_cancelled_job(client, staging)
    headshot = finished(client, post(client, "/v1/headshots", {"upload_id": upload_id, "style": "model"}).json()["id"])
    person = joined(client, "owner")
    product = {"name": "Oak chair", "sku": SKU, "upload_id": upload_id}
    shown = post(client, "/v1/products", product).json()
    room = {"upload_id": upload_id, "room_state": "generate_empty"}
    return Organization(
        client,
        person,
        {
            "upload_id": upload_id,
            "job_id": unfinished["id"],
            "generation_id": next(one["id"] for one in unfinished["generations"] if one["status"] == "failed"),
            "image_id": client.images(job)[0]["id"],
            "headshot_id": headshot["generations"][0]["id"],
            "product_id": shown["id"],
            "revision_id": shown["views"][0]["id"],
            "sku": SKU,
            "quote_id": post(client, "/v1/quotes", {"workflow": "staging", "inputs": staging}).json()["id"],
            "staging_session_id": post(client, "/v1/staging-sessions", room).json()["id"],
            "style_id": post(client, "/v1/styles", {"name": "Ours", "base": "modern"}).json()["id"],
            "user_id": person.user_id,
            "session_id": person.session_id,
            "invitation_id": post(client, "/v1/invitations", {"email": an_address()}).json()["id"],
            "event_id": until(lambda: get(client, "/v1/events")["data"])[0]["event"]["id"],
            "endpoint_id": post(client, "/v1/webhook-endpoints", {"url": "https://93.184.216.34/"}).json()["id"],
            "key_id": get(client, "/v1/api-keys")["data"][0]["id"],
        },
    )


def a_cancelled_job(client: Client, staging: dict[str, Any]) -> dict[str, Any]:
    """Return a job of which something can be made again."""
    job_id = post(client, "/v1/stagings", {**staging, "variants": 8}).json()["id"]
    asked(client, "POST", f"/v1/jobs/{job_id}/cancel")
    return finished(client, job_id)


def of_organizations(operations: list[Operation]) -> list[Operation]:
    return [operation for operation in operations if operation.credential == "apiKey"]


def of_administrators(operations: list[Operation]) -> list[Operation]:
    return [operation for operation in operations if operation.credential == "adminKey"]


def one_for(name: str, ids: dict[str, str]) -> str | None:
    """Return the id for a field such as ``photo_upload_id`` or ``upload_ids``."""
    return next((thing_id for kind, thing_id in ids.items() if name.removesuffix("s").endswith(kind)), None)


def with_ids(value: Any, ids: dict[str, str]) -> Any:
    """Return a body in which every id is one of these; an id of no known kind is a mistake of the test."""
    if not isinstance(value, dict):
        return value
    changed = {}
    for name, inner in value.items():
        if name.endswith(("_id", "_ids")):
            thing_id = one_for(name, ids)
            assert thing_id, f"give this test a real thing for the field {name}"
            changed[name] = [thing_id] if name.endswith("s") else thing_id
        else:
            changed[name] = with_ids(inner, ids)
    return changed


def naming_another(
    operations: list[Operation], document: dict[str, Any], ours: dict[str, str], others: dict[str, str]
) -> Iterator[tuple[Operation, Any]]:
    """Yield requests in whose body, not path, one thing is another's and everything else one's own."""
    for operation in operations:
        for name in operation.body_schema(document).get("properties", {}):
            if name.endswith(("_id", "_ids")):
                body = with_ids(operation.example, ours)
                yield operation, {**body, **with_ids({name: None}, others)}


def test_no_operation_but_the_open_ones_is_there_for_somebody_without_a_credential(
    nobody: Client, operations: list[Operation]
) -> None:
    closed = [operation for operation in operations if operation.credential]

    statuses = of_all(
        lambda each: asked(nobody, each.method, each.address(dict.fromkeys(each.placeholders, NOTHING))), closed
    )

    assert {operation.name for operation in operations if not operation.credential} == open_operations.OPERATIONS
    assert statuses == dict.fromkeys(statuses, 401)


def test_what_belongs_to_another_organization_is_not_there(
    ours: Organization, others: Organization, operations: list[Operation]
) -> None:
    theirs = of_organizations(operations)
    with_id = [operation for operation in theirs if operation.placeholders and operation.name not in NAMED]
    before = state_of(others)
    own = of_all(
        lambda each: asked(others.person, each.method, each.address(others.ids)),
        [each for each in with_id if each.method == "GET" or each.path.endswith("/complete")],
    )

    statuses = of_all(
        lambda each: asked(ours.person, each.method, each.address(others.ids), with_ids(each.example, ours.ids)),
        with_id,
    )

    assert {operation.name for operation in theirs} >= NAMED
    assert own.pop(NOT_DELETED) == 409
    assert set(own.values()) <= {200, 201, 303}
    assert {"GET /v1/jobs/{job_id}", "POST /v1/uploads/{upload_id}/complete"} <= set(own)
    assert statuses == dict.fromkeys(statuses, 404)
    assert state_of(others) == before


def test_no_body_reaches_into_another_organization(
    ours: Organization, others: Organization, operations: list[Operation], document: dict[str, Any]
) -> None:
    requested = list(naming_another(of_organizations(operations), document, ours.ids, others.ids))
    asked_for = [each for each in operations if "inputs" in each.body_schema(document).get("properties", {})]
    requested += [
        (operation, {"workflow": workflow["name"], "inputs": with_ids(workflow["example"], others.ids)})
        for operation in asked_for
        for workflow in get(ours.client, "/v1/workflows")["data"]
    ]
    before = settled(ours.client)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        send = lambda each: asked(ours.person, each[0].method, each[0].address(ours.ids), each[1])  # noqa: E731  one line
        answers = list(pool.map(send, requested))

    expected = {"POST /v1/stagings", "POST /v1/jobs", "POST /v1/quotes", "POST /v1/jobs/{job_id}/retry"}
    assert expected <= {each.name for each, _ in requested}
    statuses = {
        f"{operation.name} {body}": answer.status_code
        for (operation, body), answer in zip(requested, answers, strict=True)
    }
    assert statuses == {name: 409 if name.startswith(NOT_ITS_TURN) else 404 for name in statuses}
    assert ours.client.wallet() == before


def test_every_person_may_what_the_document_says_of_the_role(
    new_client: NewClient, operations: list[Operation]
) -> None:
    owner = new_client(0)
    theirs = of_organizations(operations)
    people = {role: joined(owner, role) for role in ROLES}

    for role, person in people.items():
        leaving = {name: joined(owner, role) for name in ENDING}
        askers = {each.name: leaving.get(each.name, person) for each in theirs}
        statuses = of_all(lambda each, askers=askers: harmless(askers[each.name], each), theirs)

        allowed = {each.name for each in theirs if role in each.declared["x-roles"]}
        assert {name for name, status in statuses.items() if status != 403} == allowed
        assert not {name: status for name, status in statuses.items() if status == 401 or status >= 500}

    assert all(set(each.declared["x-roles"]) <= set(ROLES) and "x-scope" in each.declared for each in theirs)


def test_every_key_may_what_the_document_says_of_its_scope_and_of_its_members_role(
    new_client: NewClient, operations: list[Operation]
) -> None:
    owner = new_client(0)
    member = joined(owner, "owner")
    theirs = of_organizations(operations)
    keys = {scope: a_key(member, [scope]) for scope in SCOPES}
    every_scope = a_key(member, list(SCOPES))

    statuses = {scope: of_all(lambda each, key=key: harmless(key, each), theirs) for scope, key in keys.items()}
    as_owner = of_all(lambda each: harmless(every_scope, each), theirs)
    changed = asked(owner, "PATCH", f"/v1/members/{member.user_id}", {"role": "viewer"})
    as_viewer = of_all(lambda each: harmless(every_scope, each), theirs)

    for scope in SCOPES:  # to have but one is a limit
        allowed = {
            each.name
            for each in theirs
            if each.declared["x-scope"] == scope and not each.declared["x-only-unlimited-keys"]
        }
        assert {name for name, status in statuses[scope].items() if status != 403} == allowed
    allowed = {each.name for each in theirs if each.declared["x-scope"]}
    assert {name for name, status in as_owner.items() if status != 403} == allowed
    assert changed.status_code == 200
    allowed = {each.name for each in theirs if each.declared["x-scope"] and "viewer" in each.declared["x-roles"]}
    assert {name for name, status in as_viewer.items() if status != 403} == allowed
    seen = {*as_owner.values(), *as_viewer.values()}.union(*(each.values() for each in statuses.values()))
    assert not {status for status in seen if status == 401 or status >= 500}


def test_what_administrators_may_nobody_of_an_organization_may_and_the_other_way_round(
    new_client: NewClient, admin: Client, operations: list[Operation]
) -> None:
    client = new_client(0)
    person = joined(client, "owner")
    of_admins = of_administrators(operations)

    as_key = of_all(lambda each: harmless(client, each), of_admins)
    as_person = of_all(lambda each: harmless(person, each), of_admins)
    as_admin = of_all(lambda each: harmless(admin, each), of_admins)
    elsewhere = of_all(lambda each: harmless(admin, each), of_organizations(operations))

    assert len(of_admins) >= 10
    assert set(as_key.values()) == set(as_person.values()) == {403}
    assert set(as_admin.values()) <= {200, 400, 404}
    assert set(elsewhere.values()) == {403}


def harmless(client: Client, operation: Operation) -> requests.Response:
    """Ask in a way that changes nothing once it is let in: of ids that are none, with a body that says nothing."""
    body = None if operation.example is None else {"no_field_is_called_this": 1}
    return asked(client, operation.method, operation.address(dict.fromkeys(operation.placeholders, NOTHING)), body)


def a_key(person: Person, scopes: list[str]) -> Client:
    made = post(person, "/v1/api-keys", {"name": "+".join(scopes), "scopes": scopes})
    assert made.status_code == 201, made.text
    return Client(gateway_url=person.gateway_url, api_key=made.json()["secret"], org_id=person.org_id)


def sent_to_the_store(client: Client) -> str:
    """Upload by a presigned link, so that the upload can be completed as well as looked up; return its id.

    It is a face that is kept: all there is can be made of it.
    """
    photo = small_photo()
    coming = {"purpose": "face", "keep_original": True, "content_type": "image/jpeg", "bytes": len(photo)}
    link = post(client, "/v1/uploads/presign", coming).json()
    requests.put(link["url"], data=photo, headers=link["headers"], timeout=10).raise_for_status()
    return str(post(client, f"/v1/uploads/{link['upload_id']}/complete", {}).json()["id"])


def state_of(others: Organization) -> dict[str, Any]:
    """Return what its own organization sees of each thing, without what changes by itself."""
    client, ids = others.client, others.ids
    return {
        "members": get(client, "/v1/members")["data"],
        "invitations": get(client, "/v1/invitations")["data"],
        "endpoints": [{**each, "failing_since": None} for each in get(client, "/v1/webhook-endpoints")["data"]],
        "keys": [(key["id"], key["status"]) for key in get(client, "/v1/api-keys")["data"]],
        "jobs": [(job["id"], job["status"]) for job in get(client, "/v1/jobs")["data"]],
        "sessions": [(one["id"], one["version"], one["status"]) for one in get(client, "/v1/staging-sessions")["data"]],
        "styles": get(client, "/v1/styles")["data"],
        "headshots": [(one["id"], one["favorite"], one["status"]) for one in get(client, "/v1/headshots")["data"]],
        "upload": asked(client, "GET", f"/v1/uploads/{ids['upload_id']}").status_code,
        "image": asked(client, "GET", f"/v1/images/{ids['image_id']}").status_code,
        "products": [(one["id"], one["version"], len(one["views"])) for one in get(client, "/v1/products")["data"]],
        "session": asked(others.person, "GET", "/v1/auth/sessions").status_code,
    }
