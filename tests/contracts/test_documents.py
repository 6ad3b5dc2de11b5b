"""The documents in the repository are what the code says; `make contracts` brings them up to date."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from shared import events
from tools import contracts

OFFICIAL = Path(__file__).parent / "official" / "asyncapi-3.0.0.json"


@pytest.fixture(scope="module")
def wanted():
    return contracts.documents()


@pytest.fixture(scope="module")
def asyncapi(wanted):
    return json.loads(wanted["docs/asyncapi.json"])


def references(part):
    """Yield every ``$ref`` in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolved(document, reference):
    found = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_the_documents_in_the_repository_are_up_to_date(wanted):
    assert "\n".join(contracts.drift(wanted)) == ""


def test_no_change_breaks_the_readers_of_an_event(wanted):
    assert contracts.breaches(wanted) == []


@pytest.fixture(scope="module")
def official():
    return Draft7Validator(json.loads(OFFICIAL.read_text()))


def test_the_asyncapi_document_is_valid_by_the_official_schema(asyncapi, official):
    assert [f"{error.json_path}: {error.message[:200]}" for error in official.iter_errors(asyncapi)] == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("info"),
        lambda document: document.update(asyncapi="2.6.0"),
        lambda document: document["channels"]["credits.events"].update(address=7),
        lambda document: document["channels"]["credits.events"].update(exchange="credits.events"),
        lambda document: next(iter(document["operations"].values())).update(action="publish"),
        lambda document: next(iter(document["components"]["messages"].values())).update(contentType=1),
    ],
)
def test_the_official_schema_refuses_what_is_wrong(asyncapi, official, spoil):
    spoilt = copy.deepcopy(asyncapi)
    spoil(spoilt)

    assert not official.is_valid(spoilt)


def test_every_reference_of_the_asyncapi_document_leads_somewhere(asyncapi):
    found = list(references(asyncapi))

    assert found
    for reference in found:
        assert resolved(asyncapi, reference)


def test_every_event_type_is_published_on_its_services_exchange(asyncapi):
    for name, cls in events.types.items():
        assert name in asyncapi["channels"][f"{cls.SOURCE}.events"]["messages"]


def test_every_subscription_is_an_operation(asyncapi):
    receiving = {name for name, operation in asyncapi["operations"].items() if operation["action"] == "receive"}

    assert "credits.on_generation_completed.from.generation" in receiving
    assert "generation.on_credit_reserved.from.credits" in receiving


@pytest.mark.parametrize("name", sorted(events.types))
def test_a_sample_is_what_the_asyncapi_document_promises(wanted, asyncapi, name):
    sample = json.loads(wanted[f"docs/events/{name}.json"])["sample"]

    # The whole document is the schema, so that references within it are found.
    Draft202012Validator({**asyncapi, "$ref": f"#/components/messages/{name}/payload"}).validate(sample)


def test_the_cost_of_a_provider_is_marked_as_internal(asyncapi):
    fields = asyncapi["components"]["schemas"]["GenerationCompleted"]["properties"]

    assert fields["provider_cost_microusd"]["x-internal"] is True
    assert "x-internal" not in fields["amount"]
