"""The API does what its OpenAPI document says, also for requests nobody would think of: schemathesis makes them up.

No answer is 500, none has a status or a shape the document does not have, and no request that breaks the document is
taken for one that keeps it.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
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

from tests.e2e.steps import NewClient, finished
from tests.faults.client import Client

pytestmark = pytest.mark.stack

SECONDS = 60.0
REQUESTS_OF_A_KIND = 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def test_the_api_keeps_what_its_document_promises(new_client: NewClient, admin: Client) -> None:
    client, switched = new_client(1000), new_client(0)
    client.stage_many(client.upload(), count=1).join()
    job = finished(client, client.accepted[0])
    (image,) = client.images(job)
    # What an administrator switches and changes is another organization's: it must not take away what is tested.
    ids = {"job_id": job["id"], "image_id": image["id"], "upload_id": client.upload(), "org_id": switched.org_id}
    ends_at = time.monotonic() + SECONDS
    sent: Counter[int] = Counter()
    found: dict[str, str] = {}

    for operation in operations(client.gateway_url):
        asker = admin if "adminKey" in str(operation.definition.raw["security"]) else client
        for strategy in strategies(operation, ids):
            sent += requests_of(strategy, asker, found, most=REQUESTS_OF_A_KIND if time.monotonic() < ends_at else 1)

    assert found == {}
    assert {200, 201, 400, 401, 404} <= set(sent)
    assert sent.total() > 300


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
                requests_of(strategy, client, found, most=5)

    assert {name.partition(":")[0] for name in found} == {"GET /v1/uploads/{upload_id} 404", "GET /v1/credits 200"}


def operations(gateway_url: str) -> Iterator[APIOperation]:
    schema = schemathesis.openapi.from_url(gateway_url + "/openapi.json")
    for result in schema.get_all_operations():
        yield result.ok()


def strategies(operation: APIOperation, ids: dict[str, str]) -> Iterator[Any]:
    """Yield makers of requests that keep the document, and that break it; with made-up ids, and with known ones."""
    known = {one.name: ids[one.name] for one in operation.path_parameters if one.name in ids}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        yield operation.as_strategy(generation_mode=mode)
        if known and operation.method.upper() != "DELETE":
            yield operation.as_strategy(generation_mode=mode, path_parameters=known)


def requests_of(strategy: Any, asker: Client, found: dict[str, str], *, most: int) -> Counter[int]:
    """Send requests, note in ``found`` what their answers should not be, and return how many had which status."""
    headers = {"Authorization": f"Bearer {asker.api_key}"}
    sent: Counter[int] = Counter()

    @seed(7)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: Case) -> None:
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
