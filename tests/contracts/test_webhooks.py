"""The webhooks of the OpenAPI document: what it says an endpoint receives is what an organization may see."""

import json

import pytest
from jsonschema import Draft202012Validator

from services.gateway.service import Gateway
from shared import events
from shared.openapi import openapi_document
from shared.openapi_webhooks import add_webhooks
from tests.contracts.test_documents import references, resolved
from tests.contracts.test_events import DOCUMENTS

DOCUMENT = openapi_document(Gateway)
WEBHOOKS = {name: item["post"] for name, item in DOCUMENT["webhooks"].items()}
CLOUD_EVENT = "application/cloudevents+json"


def body_of(name):
    return WEBHOOKS[name]["requestBody"]["content"][CLOUD_EVENT]


def test_every_public_event_of_an_organization_is_a_webhook_and_no_other_is():
    public = {name for name, document in DOCUMENTS.items() if document["public"]}

    assert set(WEBHOOKS) == public
    assert {"JobFinished", "GenerationCompleted", "RefundIssued"} <= public
    assert {"PasswordResetRequested", "ReservationOverdue"}.isdisjoint(WEBHOOKS)


@pytest.mark.parametrize("name", sorted(WEBHOOKS))
def test_the_example_is_the_stored_sample_as_its_organization_sees_it(name):
    document, example = DOCUMENTS[name], body_of(name)["example"]
    sample = document["sample"]
    shown = {field: sample["data"][field] for field in document["public"]}

    assert example == {**sample, "data": shown, "orgsequence": example["orgsequence"]}
    assert events.decode(json.dumps(sample).encode()).meta.id == example["id"]


@pytest.mark.parametrize("name", sorted(WEBHOOKS))
def test_the_example_fits_the_schema_which_refuses_another_type(name):
    media = body_of(name)
    schema = Draft202012Validator({**media["schema"], "components": DOCUMENT["components"]})

    schema.validate(media["example"])
    assert not schema.is_valid({**media["example"], "type": "SomethingElse"})
    assert not schema.is_valid({**media["example"], "data": {}})


@pytest.mark.parametrize("name", sorted(WEBHOOKS))
def test_no_internal_field_is_described_or_shown(name):
    described = set(DOCUMENT["components"]["schemas"][name]["properties"])

    assert described == set(DOCUMENTS[name]["public"])
    assert described.isdisjoint({"provider_cost_microusd", "email"})


@pytest.mark.parametrize("name", sorted(WEBHOOKS))
def test_the_headers_are_those_of_standard_webhooks(name):
    headers = {one["name"]: one for one in WEBHOOKS[name]["parameters"]}

    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert all(header["in"] == "header" and header["required"] for header in headers.values())
    assert headers["webhook-id"]["example"] == body_of(name)["example"]["id"]


def test_every_reference_of_the_document_leads_somewhere():
    found = list(references(DOCUMENT))

    assert "#/components/schemas/JobFinishedEvent" in found
    assert "#/components/schemas/SettledLine" in found
    assert all(resolved(DOCUMENT, reference) for reference in found)


def test_two_schemas_of_one_name_are_refused():
    with pytest.raises(ValueError, match="JobFinished"):
        add_webhooks({"components": {"schemas": {"JobFinished": {}}}}, [events.JobFinished])
