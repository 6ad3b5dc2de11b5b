"""Feature flags: a route that is off for one organization is not there for it, and is for every other."""

import pytest

from services.gateway.flags import DEFAULTS
from services.gateway.service import Gateway
from shared.http import routes_of
from shared.ids import new_id


@pytest.fixture
def switch(client, admin):
    def put(org_id, **body):
        return client.put(f"/v1/admin/organizations/{org_id}/flags", json=body, headers=admin)

    return put


def test_a_flag_that_is_off_takes_its_route_away_from_one_organization(client, switch, an_organization):
    (org_id, headers), (_, of_another) = an_organization(), an_organization()
    before = client.get("/v1/usage", headers=headers).status_code

    switched = switch(org_id, name="usage_report", enabled=False)

    answer = client.get("/v1/usage", headers=headers)
    assert (before, switched.status_code) == (200, 200)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert answer.json["detail"] == client.get("/v1/nowhere", headers=headers).json["detail"]
    assert client.get("/v1/credits/entries.csv", headers=headers).status_code == 200
    assert client.get("/v1/usage", headers=of_another).status_code == 200


def test_a_flag_can_be_switched_on_again_and_left_to_its_default(client, switch, studio):
    org_id, headers = studio
    switch(org_id, name="usage_report", enabled=False)

    on = switch(org_id, name="usage_report", enabled=True).json["data"]
    reached = client.get("/v1/usage", headers=headers).status_code
    switch(org_id, name="usage_report", enabled=False)
    left = switch(org_id, name="usage_report", enabled=None).json["data"]

    assert {one["name"]: one["enabled"] for one in on} == DEFAULTS
    assert reached == 200
    assert left == [{"name": name, "enabled": on, "default": on} for name, on in sorted(DEFAULTS.items())]


def test_who_may_not_ask_learns_nothing_of_a_flag(client, switch, studio):
    switch(studio[0], name="usage_report", enabled=False)

    assert client.get("/v1/usage").status_code == 401


@pytest.mark.parametrize("body", [{"name": "no_such_flag", "enabled": True}, {"name": "csv_export"}, {"enabled": True}])
def test_a_flag_that_is_none_is_refused(switch, studio, body):
    assert switch(studio[0], **body).status_code == 400


def test_an_organization_that_is_none_has_no_flags(client, admin, switch):
    nobody = new_id("org")

    assert switch(nobody, name="csv_export", enabled=True).status_code == 404
    assert client.get(f"/v1/admin/organizations/{nobody}/flags", headers=admin).status_code == 404


def test_only_an_administrator_switches(client, studio):
    org_id, headers = studio
    body = {"name": "csv_export", "enabled": True}

    assert client.put(f"/v1/admin/organizations/{org_id}/flags", json=body, headers=headers).status_code == 403


def test_every_flag_there_is_belongs_to_a_route():
    assert {route.flag.name for _, route in routes_of(Gateway) if route.flag} == set(DEFAULTS)
