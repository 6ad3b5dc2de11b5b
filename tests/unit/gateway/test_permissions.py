"""Who may do what, over every route there is. The expectation is written out here, not read from the table."""

import pytest

from services.gateway import permissions
from services.gateway.service import Gateway
from shared.http import Principal, routes_of
from shared.problems import Forbidden

PUBLIC = {
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/errors",
    "POST /v1/invitations/lookup",
    "POST /v1/auth/signup",
    "POST /v1/auth/login",
    "POST /v1/auth/password-reset",
    "POST /v1/auth/password-reset/confirm",
}
OWNERS_ONLY = {
    "PUT /v1/plan",
    "POST /v1/invitations",
    "GET /v1/invitations",
    "DELETE /v1/invitations/<invitation_id>",
    "POST /v1/api-keys",
    "GET /v1/api-keys",
    "DELETE /v1/api-keys/<key_id>",
    "POST /v1/api-keys/<key_id>/rotate",
    "PATCH /v1/members/<user_id>",
    "DELETE /v1/members/<user_id>",
}
OF_A_PERSON = {
    "PATCH /v1/me",
    "PUT /v1/me/defaults",
    "POST /v1/auth/logout",
    "POST /v1/auth/password",
    "GET /v1/auth/sessions",
    "DELETE /v1/auth/sessions",
    "DELETE /v1/auth/sessions/<session_id>",
}
HOLDING = {"POST /v1/jobs", "POST /v1/stagings"}
BUYING = {"PUT /v1/plan"}

ROUTES = [route for _, route in routes_of(Gateway)]
OF_ORGANIZATIONS = [route for route in ROUTES if route.auth and "/admin/" not in route.url]


def name_of(route):
    return f"{route.method} {route.url}"


def roles_expected(route):
    if name_of(route) in OWNERS_ONLY:
        return {"owner"}
    if name_of(route) in OF_A_PERSON or route.method == "GET":
        return {"owner", "editor", "viewer"}
    return {"owner", "editor"}


def scope_expected(route):
    if name_of(route) in OF_A_PERSON:
        return None
    if name_of(route) in OWNERS_ONLY:
        return "manage"
    if name_of(route) in HOLDING:
        return "spend"
    return "read" if route.method == "GET" else "write"


def lets(route, **who):
    principal = Principal(**{"kind": "session", "id": "usr_1", "name": "Ada", "org_id": "org_1", **who})
    try:
        route.auth.permit(route, principal)
    except Forbidden:
        return False
    return True


def test_what_is_open_to_everybody_is_on_the_list():
    assert {name_of(route) for route in ROUTES if route.auth is None} == PUBLIC


def test_the_lists_of_exceptions_name_routes_there_are():
    assert {name_of(route) for route in ROUTES} >= PUBLIC | OWNERS_ONLY | OF_A_PERSON | HOLDING | BUYING


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_every_route_lets_exactly_its_roles_in(route):
    let_in = {role for role in ("owner", "editor", "viewer") if lets(route, role=role)}

    assert let_in == roles_expected(route)


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_every_route_lets_in_the_keys_with_its_scope_and_no_other(route):
    scopes = {"read", "write", "spend", "manage"}
    let_in = {scope for scope in scopes if lets(route, kind="key", role="owner", scopes=frozenset({scope}))}

    assert let_in == {scope_expected(route)} - {None}


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_a_key_with_every_scope_may_no_more_than_its_member(route):
    everything = frozenset({"read", "write", "spend", "manage"})
    let_in = {role for role in ("owner", "editor", "viewer") if lets(route, kind="key", role=role, scopes=everything)}

    assert let_in == (roles_expected(route) if scope_expected(route) else set())


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_a_test_key_may_what_a_live_one_may_but_buy_something(route):
    everything = frozenset({"read", "write", "spend", "manage"})
    let_in = {mode: lets(route, kind="key", role="owner", scopes=everything, livemode=mode) for mode in (True, False)}

    assert let_in == {True: scope_expected(route) is not None, False: let_in[True] and name_of(route) not in BUYING}


def test_a_key_for_some_workflows_asks_for_those_alone():
    limited = Principal(kind="key", id="key_1", name="CI", workflows=frozenset({"staging"}))

    permissions.permit_workflow(limited, "staging")
    with pytest.raises(Forbidden, match="headshot"):
        permissions.permit_workflow(limited, "headshot")


def test_who_may_do_everything_asks_for_every_workflow():
    permissions.permit_workflow(Principal(kind="session", id="usr_1", name="Ada"), "headshot")
