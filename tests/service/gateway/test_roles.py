"""Roles and scopes over HTTP: 401 comes before 403, and 403 before anything is read or looked up."""

import re

import pytest
import sqlalchemy as sa

from services.gateway.models import ApiKey, Member
from services.gateway.service import Gateway
from shared.http import routes_of
from tests.service.gateway.people import join
from tests.unit.gateway.test_permissions import OF_ORGANIZATIONS, name_of, roles_expected, scope_expected

ROUTES = [route for _, route in routes_of(Gateway) if route.auth]


def address_of(route):
    return re.sub(r"<(?:\w+:)?\w+>", "nothing", route.url)


@pytest.fixture
def with_role(gateway, studio):
    """Give the headers of a key whose member has a role."""
    org_id, headers = studio

    def become(role, **key):
        with gateway.db.transaction() as session:
            session.execute(sa.update(Member).where(Member.org_id == org_id).values(role=role))
            if key:
                session.execute(sa.update(ApiKey).where(ApiKey.org_id == org_id).values(**key))
        gateway.known_keys.forget()
        return headers

    return become


def test_every_route_wants_a_credential(client):
    statuses = {name_of(route): client.open(address_of(route), method=route.method).status_code for route in ROUTES}

    assert statuses == dict.fromkeys(statuses, 401)


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_every_route_refuses_the_roles_that_are_not_its_own(client, with_role, role):
    headers = with_role(role)

    refused = {
        name_of(route)
        for route in OF_ORGANIZATIONS
        if client.open(address_of(route), method=route.method, headers=headers).status_code == 403
    }

    expected = {
        name_of(route)
        for route in OF_ORGANIZATIONS
        if role not in roles_expected(route) or scope_expected(route) is None
    }
    assert refused == expected


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_a_person_may_what_the_role_may(client, studio, role):
    _, headers = join(client, studio[1], role=role)
    log_out_last = sorted(OF_ORGANIZATIONS, key=lambda route: route.url == "/v1/auth/logout")

    statuses = {
        name_of(route): client.open(address_of(route), method=route.method, headers=headers).status_code
        for route in log_out_last
    }

    refused = {name for name, status in statuses.items() if status == 403}
    assert refused == {name_of(route) for route in OF_ORGANIZATIONS if role not in roles_expected(route)}
    assert not {name for name, status in statuses.items() if status in {401, 500}}


def test_an_organizations_key_opens_no_route_of_administrators(client, studio):
    _, headers = studio
    of_admins = [route for route in ROUTES if "/admin/" in route.url]

    statuses = {client.open(address_of(route), method=route.method, headers=headers).status_code for route in of_admins}

    assert len(of_admins) >= 6
    assert statuses == {403}


def test_a_viewer_is_told_who_may(client, with_role):
    answer = client.post("/v1/jobs", json={}, headers=with_role("viewer"))

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert "owner or editor" in answer.json["detail"]


def test_a_key_for_some_workflows_neither_orders_nor_prices_another(client, studio, with_role, a_staging, services):
    org_id, _ = studio
    headers = {**with_role("owner", workflows=["headshot"]), "Idempotency-Key": "a"}
    inputs = a_staging(org_id)

    ordered = client.post("/v1/jobs", json={"workflow": "staging", "inputs": inputs}, headers=headers)
    short = client.post("/v1/stagings", json=inputs, headers=headers)
    priced = client.post("/v1/quotes", json={"workflow": "staging", "inputs": inputs}, headers=headers)

    assert [answer.status_code for answer in (ordered, short, priced)] == [403, 403, 403]
    assert services.jobs == {}


def test_the_document_says_who_may(client):
    paths = client.get("/openapi.json").json["paths"]

    assert paths["/v1/plan"]["put"]["x-roles"] == ["owner"]
    assert paths["/v1/jobs"]["post"]["x-scope"] == "spend"
