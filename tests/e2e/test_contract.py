"""The API does what its OpenAPI document says, also for requests nobody would think of: schemathesis makes them up.

No answer is 500, none has a status or a shape the document does not have, and no request that breaks the document is
taken for one that keeps it.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.steps import NewClient, Person, an_address, finished, joined, logged_in, post
from tests.faults.client import Client

pytestmark = pytest.mark.stack

SECONDS = 30.0
# In one round. Every operation has its turn in the first, and there are more rounds for as long as there is time.
REQUESTS_OF_A_KIND = 4
# What only a person may, and what made-up requests can bring about: at least one of each has to be let through.
OF_PEOPLE = {
    "POST /v1/auth/logout",
    "GET /v1/auth/sessions",
    "DELETE /v1/auth/sessions",
    "DELETE /v1/auth/sessions/{session_id}",
    "PATCH /v1/me",
    "PUT /v1/me/defaults",
    "PUT /v1/me/preferences",
    "POST /v1/notifications/read",
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@dataclass
class World:
    """Who asks, and for what: ``ids`` of things that stay, ``spare`` ones to be deleted."""

    client: Client
    admin: Client
    person: Person
    ids: dict[str, str]
    spare: dict[str, str]
    admins_ids: dict[str, str]

    def asker_of(self, operation: APIOperation) -> Callable[[], Client]:
        """Return what gives who sends a request: a person where no key may, a new one where that ends the session."""
        declared = operation.definition.raw
        if "adminKey" in str(declared["security"]):
            return lambda: self.admin
        if declared.get("x-scope", "no") is not None:  # also what is open, or for providers
            return lambda: self.client
        if operation.label == "POST /v1/auth/logout":
            return lambda: joined(self.client, "editor")
        return lambda: self.person

    def ids_for(self, operation: APIOperation) -> dict[str, str]:
        if "adminKey" in str(operation.definition.raw["security"]):
            return self.admins_ids
        return self.spare if operation.method.upper() == "DELETE" else self.ids


@pytest.fixture
def world(new_client: NewClient, admin: Client) -> World:
    client, switched = new_client(1000), new_client(0)
    client.stage_many(client.upload(), count=1).join()
    job = finished(client, client.accepted[0])
    person, colleague, leaver = (joined(client, "owner") for _ in range(3))
    kept, revoked = (post(client, "/v1/api-keys", {"name": "spare"}).json()["id"] for _ in range(2))
    product, discontinued = (post(client, "/v1/products", {"name": "Chair", "sku": sku}).json() for sku in ("A", "B"))
    room = {"upload_id": client.upload(), "room_state": "generate_empty"}
    kept_session, spare_session = (post(client, "/v1/staging-sessions", room).json()["id"] for _ in range(2))
    kept_style, spare_style = (
        post(client, "/v1/styles", {"name": name, "base": "modern"}).json()["id"] for name in ("kept", "spare")
    )
    ids = {
        "staging_session_id": kept_session,
        "style_id": kept_style,
        "job_id": job["id"],
        "image_id": client.images(job)[0]["id"],
        "upload_id": client.upload(),
        "user_id": colleague.user_id,
        "key_id": kept,
        "endpoint_id": post(client, "/v1/webhook-endpoints", {"url": "https://93.184.216.34/"}).json()["id"],
        "product_id": product["id"],
        "sku": product["sku"],
    }
    spare = {
        "staging_session_id": spare_session,
        "style_id": spare_style,
        "upload_id": client.upload(1),
        "user_id": leaver.user_id,
        "key_id": revoked,
        "endpoint_id": post(client, "/v1/webhook-endpoints", {"url": "https://93.184.216.34/"}).json()["id"],
        "product_id": discontinued["id"],
        "invitation_id": post(client, "/v1/invitations", {"email": an_address()}).json()["id"],
        "session_id": logged_in(person).session_id,
    }
    # What an administrator switches and changes is another organization's: it must not take away what is tested.
    admins_ids = {
        "org_id": switched.org_id,
        "job_id": job["id"],
        "key_id": post(admin, "/v1/admin/keys", {"name": "spare"}).json()["id"],
    }
    return World(client, admin, person, ids, spare, admins_ids)


def test_the_api_keeps_what_its_document_promises(world: World) -> None:
    began = time.monotonic()
    sent: dict[str, Counter[int]] = {}
    found: dict[str, str] = {}

    for number, operation in rounds(list(operations(world.client.gateway_url))):
        late = time.monotonic() >= began + SECONDS
        if late and number > 1:
            break
        counts = sent.setdefault(operation.label, Counter())
        most = 1 if late and operation.label not in OF_PEOPLE else REQUESTS_OF_A_KIND
        counts += asked_of(operation, world, found, most=most, number=number)

    print(report(sent, seconds=time.monotonic() - began))  # noqa: T201  figures to quote: shown by pytest -s
    assert found == {}
    assert sum(sent.values(), Counter()).total() > 300
    assert {200, 201, 204, 400, 401, 404} <= set().union(*sent.values())
    for label in OF_PEOPLE:
        assert {200, 204} & set(sent[label]), f"{label}: {sent[label]}"


def test_what_the_document_does_not_promise_is_found(new_client: NewClient) -> None:
    client = new_client(0)
    found: dict[str, str] = {}
    schema = schemathesis.openapi.from_url(client.gateway_url + "/openapi.json")
    raw = schema.raw_schema
    del raw["paths"]["/v1/uploads/{upload_id}"]["get"]["responses"]["404"]
    raw["components"]["schemas"]["Credits"]["properties"]["available"]["type"] = "string"
    careless = schemathesis.openapi.from_dict(raw)
    careless.config.update(base_url=client.gateway_url)

    for operation in careless.get_all_operations():
        if operation.ok().label in {"GET /v1/uploads/{upload_id}", "GET /v1/credits"}:
            for strategy in strategies(operation.ok(), {}):
                requests_of(strategy, lambda: client, found, most=5)

    assert {name.partition(":")[0] for name in found} == {"GET /v1/uploads/{upload_id} 404", "GET /v1/credits 200"}


def operations(gateway_url: str) -> Iterator[APIOperation]:
    schema = schemathesis.openapi.from_url(gateway_url + "/openapi.json")
    for result in schema.get_all_operations():
        if not result.ok().path.endswith("/events/stream"):  # its good answers have no end to wait for
            yield result.ok()


def rounds(every: list[APIOperation]) -> Iterator[tuple[int, APIOperation]]:
    """Yield every operation with the number of its round, without an end."""
    return ((number, operation) for number in count(1) for operation in every)


def asked_of(operation: APIOperation, world: World, found: dict[str, str], *, most: int, number: int) -> Counter[int]:
    """Send requests of every kind to one operation, others in each round; return how many had which status."""
    asker, ids = world.asker_of(operation), world.ids_for(operation)
    each = [requests_of(one, asker, found, most=most, number=number) for one in strategies(operation, ids)]
    return sum(each, Counter())


def strategies(operation: APIOperation, ids: dict[str, str]) -> Iterator[Any]:
    """Yield makers of requests that keep the document, and that break it; with made-up ids, and with known ones."""
    known = {one.name: ids[one.name] for one in operation.path_parameters if one.name in ids}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        yield operation.as_strategy(generation_mode=mode)
        if known:
            yield operation.as_strategy(generation_mode=mode, path_parameters=known)


def report(sent: dict[str, Counter[int]], *, seconds: float) -> str:
    """Return what was asked, in words and figures."""
    by_status = sum(sent.values(), Counter())
    figures = ", ".join(f"{status}: {number}" for status, number in sorted(by_status.items()))
    lines = [f"{by_status.total()} requests of {len(sent)} operations in {seconds:.0f} s by status: {figures}"]
    lines += [f"  {label}: {dict(sorted(counts.items()))}" for label, counts in sorted(sent.items())]
    return "\n".join(lines)


def requests_of(
    strategy: Any, asker: Callable[[], Client], found: dict[str, str], *, most: int, number: int = 1
) -> Counter[int]:
    """Send requests, note in ``found`` what their answers should not be, and return how many had which status."""
    sent: Counter[int] = Counter()

    @seed(number)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: Case) -> None:
        headers = {"Authorization": f"Bearer {asker().api_key}"}
        answer = case.call(headers=headers, timeout=20)
        sent[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS, headers=headers)
        except FailureGroup as group:
            for failure in group.exceptions:
                name = f"{case.operation.label} {answer.status_code}: {getattr(failure, 'title', failure)}"
                found.setdefault(name, f"{failure}\n{case.as_curl_command()}\n{answer.text[:500]}")

    with contextlib.suppress(Unsatisfiable):  # it takes nothing that could be wrong
        send()
    return sent
