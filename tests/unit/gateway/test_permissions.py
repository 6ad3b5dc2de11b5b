"""Who may do what, over every route there is. The expectation is written out here, not read from the table."""

from datetime import UTC, datetime

import pytest

from services.gateway import permissions
from services.gateway.service import Gateway
from shared.http import Principal, routes_of
from shared.problems import Forbidden
from tests import open_operations

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
    "POST /v1/webhook-endpoints",
    "GET /v1/webhook-endpoints",
    "GET /v1/webhook-endpoints/<endpoint_id>",
    "PATCH /v1/webhook-endpoints/<endpoint_id>",
    "DELETE /v1/webhook-endpoints/<endpoint_id>",
    "POST /v1/webhook-endpoints/<endpoint_id>/test",
    "POST /v1/webhook-endpoints/<endpoint_id>/rotate",
    "POST /v1/webhook-endpoints/<endpoint_id>/replay",
    "GET /v1/webhook-endpoints/<endpoint_id>/deliveries",
}
# An owner alone may delete these, with any key that may write.
OF_AN_OWNER = {"DELETE /v1/staging-sessions/<staging_session_id>"}
# Whoever may look at headshots may tell what came of looking.
OF_EVERYBODY = {"POST /v1/analytics/events"}
OF_A_PERSON = {
    "PATCH /v1/me",
    "PUT /v1/me/defaults",
    "PUT /v1/me/preferences",
    "POST /v1/notifications/read",
    "POST /v1/auth/logout",
    "POST /v1/auth/password",
    "GET /v1/auth/sessions",
    "DELETE /v1/auth/sessions",
    "DELETE /v1/auth/sessions/<session_id>",
}
EVERYTHING = frozenset({"read", "write", "spend", "manage"})
SOON = datetime(2031, 5, 1, tzinfo=UTC)
HOLDING = {
    "POST /v1/jobs",
    "POST /v1/jobs/<job_id>/retry",
    "POST /v1/stagings",
    "POST /v1/headshots",
    "POST /v1/headshots/batches",
    "POST /v1/staging-sessions/<staging_session_id>/empty-rooms",
    "POST /v1/staging-sessions/<staging_session_id>/stagings",
    "POST /v1/tech-packs/<product_id>/category",
    "POST /v1/tech-packs/<product_id>/base-views",
    "POST /v1/tech-packs/<product_id>/close-ups",
    "POST /v1/tech-packs/<product_id>/sketches",
    "POST /v1/tech-packs/<product_id>/regenerations",
    "POST /v1/revisions/<revision_id>/edits",
    "POST /v1/revisions/<revision_id>/regenerations",
}

ROUTES = [route for _, route in routes_of(Gateway)]
OF_ORGANIZATIONS = [route for route in ROUTES if route.auth and route.auth.scheme == "apiKey"]
OF_ADMINISTRATORS = [route for route in ROUTES if route.auth and route.auth.scheme == "adminKey"]
OF_PROVIDERS = {"POST /v1/webhooks-in/<provider>"}


def name_of(route):
    return f"{route.method} {route.url}"


def roles_expected(route):
    if name_of(route) in OWNERS_ONLY | OF_AN_OWNER:
        return {"owner"}
    if name_of(route) in OF_A_PERSON | OF_EVERYBODY or route.method == "GET":
        return {"owner", "editor", "viewer"}
    return {"owner", "editor"}


def scope_expected(route):
    if name_of(route) in OF_A_PERSON:
        return None
    if name_of(route) in OWNERS_ONLY:
        return "manage"
    if name_of(route) in HOLDING:
        return "spend"
    return "read" if route.method == "GET" or name_of(route) in OF_EVERYBODY else "write"


MANAGING = [route for route in OF_ORGANIZATIONS if name_of(route) in OWNERS_ONLY]


def lets(route, **who):
    principal = Principal(**{"kind": "session", "id": "usr_1", "name": "Ada", "org_id": "org_1", **who})
    try:
        route.auth.permit(route, principal)
    except Forbidden:
        return False
    return True


def test_what_is_open_to_everybody_is_on_the_list():
    assert {name_of(route) for route in ROUTES if route.auth is None} == open_operations.ROUTES


def test_whatever_is_closed_is_of_organizations_of_administrators_or_of_providers():
    others = [route for route in ROUTES if route.auth and route not in [*OF_ORGANIZATIONS, *OF_ADMINISTRATORS]]

    assert {name_of(route) for route in others} == OF_PROVIDERS
    assert all("/admin/" in route.url for route in OF_ADMINISTRATORS)
    assert not any("/admin/" in route.url for route in OF_ORGANIZATIONS)


def test_the_lists_of_exceptions_name_routes_there_are():
    assert {
        name_of(route) for route in ROUTES
    } >= open_operations.ROUTES | OWNERS_ONLY | OF_AN_OWNER | OF_A_PERSON | HOLDING


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_every_route_lets_exactly_its_roles_in(route):
    let_in = {role for role in ("owner", "editor", "viewer") if lets(route, role=role)}

    assert let_in == roles_expected(route)


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_every_route_lets_in_the_keys_with_its_scope_and_no_other(route):
    let_in = {scope for scope in EVERYTHING if lets(route, kind="key", role="owner", scopes=frozenset({scope}))}

    assert let_in == {scope_expected(route)} - {None, "manage"}


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_a_key_with_every_scope_may_no_more_than_its_member(route):
    let_in = {role for role in ("owner", "editor", "viewer") if lets(route, kind="key", role=role, scopes=EVERYTHING)}

    assert let_in == (roles_expected(route) if scope_expected(route) else set())


@pytest.mark.parametrize("route", OF_ORGANIZATIONS, ids=name_of)
def test_a_test_key_may_what_a_live_one_may_but_manage(route):
    let_in = {mode: lets(route, kind="key", role="owner", scopes=EVERYTHING, livemode=mode) for mode in (True, False)}

    assert let_in == {
        True: scope_expected(route) is not None,
        False: let_in[True] and name_of(route) not in OWNERS_ONLY,
    }


@pytest.mark.parametrize(
    ("limits", "manages"),
    [
        ({}, True),
        ({"livemode": False}, False),
        ({"workflows": frozenset({"staging"})}, False),
        ({"expires_at": SOON}, False),
        ({"expires_at": SOON, "replaced": True}, True),
        ({"replaced": True, "livemode": False, "expires_at": SOON}, False),
        ({"scopes": frozenset({"manage"})}, False),
        *(({"scopes": EVERYTHING - {scope}}, False) for scope in sorted(EVERYTHING)),
    ],
)
@pytest.mark.parametrize("route", MANAGING, ids=name_of)
def test_only_a_key_that_nothing_limits_manages(route, limits, manages):
    assert lets(route, **{"kind": "key", "role": "owner", "scopes": EVERYTHING, **limits}) == manages


def test_a_key_for_some_workflows_asks_for_those_alone():
    limited = Principal(kind="key", id="key_1", name="CI", workflows=frozenset({"staging"}))

    permissions.permit_workflow(limited, "staging")
    with pytest.raises(Forbidden, match="headshot"):
        permissions.permit_workflow(limited, "headshot")


def test_who_may_do_everything_asks_for_every_workflow():
    permissions.permit_workflow(Principal(kind="session", id="usr_1", name="Ada"), "headshot")
