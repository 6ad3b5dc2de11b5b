"""Every body in the OpenAPI document has an example, and every example is one."""

import pytest
from jsonschema import Draft202012Validator

from services.gateway import workflows
from services.gateway.service import Gateway
from shared.http import routes_of
from shared.http_schemas import load
from shared.openapi import openapi_document

DOCUMENT = openapi_document(Gateway)
ROUTES = [route for _, route in routes_of(Gateway)]
WITH_JSON = [route for route in ROUTES if route.body]
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
BODIES = [
    pytest.param(media, id=f"{name} {status} {kind}")
    for name, operation in OPERATIONS
    for status, answer in {**operation["responses"], "body": operation.get("requestBody", {})}.items()
    for kind, media in answer.get("content", {}).items()
    if kind.endswith("json") and media["schema"] != {"type": "object"}
]


def operation_of(route):
    path = route.url.replace("<", "{").replace(">", "}")
    return DOCUMENT["paths"][path][route.method.lower()]


@pytest.mark.parametrize("media", BODIES)
def test_an_example_fits_its_schema(media):
    schema = {**media["schema"], "components": DOCUMENT["components"]}

    Draft202012Validator(schema).validate(media["example"])


@pytest.mark.parametrize("route", WITH_JSON, ids=lambda route: f"{route.method} {route.url}")
def test_the_example_of_a_request_is_one_the_route_takes(route):
    example = operation_of(route)["requestBody"]["content"]["application/json"]["example"]

    loaded = load(route.body(), example)

    assert loaded or not route.body().fields
    if "inputs" in loaded:
        workflows.check(workflows.contract(loaded["workflow"]), loaded["inputs"], at="/inputs")


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_the_example_of_a_refusal_has_a_code_of_its_status(name, operation):
    for status, answer in operation["responses"].items():
        if "x-problem-codes" in answer:
            example = answer["content"]["application/problem+json"]["example"]
            assert example["code"] in answer["x-problem-codes"], name
            assert str(example["status"]) == status


def test_what_each_workflow_takes_is_in_the_document():
    request = DOCUMENT["components"]["schemas"]["JobRequest"]

    assert {branch["properties"]["workflow"]["const"] for branch in request["anyOf"]} == set(workflows.contracts())
    staging = next(one for one in request["anyOf"] if one["properties"]["workflow"]["const"] == "staging")
    assert "upload_id" in staging["properties"]["inputs"]["required"]
