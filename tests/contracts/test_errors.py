"""The page of errors, and that every route declares what it may refuse with."""

import inspect
import re

import pytest
from werkzeug.test import Client

from services.downloads.service import Downloads
from services.gateway.idempotency import IdempotencyKeyRequired, IdempotencyKeyReused, RequestInProgress
from services.gateway.routes.health import HealthRoutes
from services.gateway.service import Gateway
from shared.http import application_of, routes_of
from shared.problems import Problem
from tests.contracts.test_documents import wanted  # noqa: F401  the documents, made once
from tools import problems

ENTRIES = problems.entries()
ROUTES = [route for service in (Gateway, Downloads) for _, route in routes_of(service)]
WITH_KEPT_ANSWERS = [route for route in ROUTES if route.guard and route.auth]


def test_every_error_says_what_it_means_and_what_to_do():
    for entry in ENTRIES:
        assert entry["meaning"].endswith("."), entry
        assert entry["remedy"].endswith("."), entry
        assert entry["code"] == "internal_error" or entry["remedy"] != Problem.remedy, f"{entry['code']}: say a remedy"


def test_every_code_a_route_declares_is_on_the_page(wanted):  # noqa: F811  the fixture
    page = wanted["docs/errors.md"]

    for route in ROUTES:
        for kind in route.refusals:
            assert f"\n### {kind.code}\n" in page, f"{route.url}: {kind.code}"


def test_the_page_is_served_where_the_type_of_a_problem_leads():
    client = Client(application_of(HealthRoutes()))

    address, _, anchor = client.get("/nowhere").json["type"].partition("#")
    page = client.get(address)

    assert page.status_code == 200
    assert f"id='{anchor}'" in page.text
    assert not re.search(r"(?:src|href)=['\"]?(?:https?:)?//", page.text)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.guard and route.auth], ids=lambda route: route.url
)
def test_a_route_that_keeps_its_answers_declares_how_they_can_be_refused(route):
    declared = {RequestInProgress, IdempotencyKeyReused} | ({IdempotencyKeyRequired} if route.money else set())

    assert declared <= set(route.refusals)


@pytest.mark.parametrize("route", [route for route in ROUTES if "<" in route.url], ids=lambda route: route.url)
def test_every_placeholder_of_an_address_is_an_argument_of_its_handler(route):
    handler = next(
        inspect.unwrap(getattr(service, name))
        for service in (Gateway, Downloads)
        for name, each in routes_of(service)
        if each is route
    )

    assert set(re.findall(r"<(?:\w+:)?(\w+)>", route.url)) <= set(inspect.signature(handler).parameters)
