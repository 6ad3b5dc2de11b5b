"""Conditional requests on the routes of the gateway."""

import pytest

from tests.service.gateway.people import at_once, join


def test_a_poll_is_answered_with_304_until_the_job_has_changed(client, services, studio, a_staging):
    org_id, headers = studio
    job = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "k"}).json
    path = f"/v1/jobs/{job['id']}"
    tag = client.get(path, headers=headers).headers["ETag"]

    unchanged = client.get(path, headers={**headers, "If-None-Match": tag})
    services.finish(job["id"])
    changed = client.get(path, headers={**headers, "If-None-Match": tag})

    assert (unchanged.status_code, unchanged.headers["Retry-After"]) == (304, "5")
    assert changed.status_code == 200


@pytest.mark.parametrize("path", ["/v1/credits", "/v1/uploads/{upload_id}", "/v1/images/{image_id}", "/v1/jobs"])
def test_everything_that_can_be_looked_up_has_a_tag(client, services, studio, a_staging, path):
    org_id, headers = studio
    body = a_staging(org_id)
    job = client.post("/v1/stagings", json=body, headers={**headers, "Idempotency-Key": "k"}).json
    services.finish(job["id"])
    path = path.format(upload_id=body["upload_id"], image_id=next(iter(services.images)))
    tag = client.get(path, headers=headers).headers["ETag"]

    assert client.get(path, headers={**headers, "If-None-Match": tag}).status_code == 304


def test_an_upload_is_deleted_only_as_it_was_seen(client, studio, an_upload):
    org_id, headers = studio
    path = f"/v1/uploads/{an_upload(org_id)}"
    tag = client.get(path, headers=headers).headers["ETag"]

    stale = client.delete(path, headers={**headers, "If-Match": '"other"'})
    seen = client.delete(path, headers={**headers, "If-Match": tag})

    assert (stale.status_code, stale.json["etag"]) == (412, tag)
    assert seen.status_code == 204


def test_the_plan_is_changed_only_for_the_wallet_that_was_seen(client, services, studio):
    org_id, headers = studio
    tag = client.get("/v1/credits", headers=headers).headers["ETag"]

    stale = client.put("/v1/plan", json={"plan": "free"}, headers={**headers, "If-Match": '"9-other"'})
    seen = client.put("/v1/plan", json={"plan": "free"}, headers={**headers, "If-Match": tag})

    assert (stale.status_code, stale.json["current"]["available"]) == (412, services.wallets[org_id])
    assert seen.status_code == 200


def test_the_plan_is_changed_once_for_what_was_seen(client, studio):
    _, headers = studio
    tag = client.get("/v1/credits", headers=headers).headers["ETag"]

    first, second = (
        client.put("/v1/plan", json={"plan": plan}, headers={**headers, "If-Match": tag}) for plan in ("free", "team")
    )

    assert (first.status_code, second.status_code) == (200, 412)
    assert second.json["current"]["plan"] == "free"


def test_a_plan_that_is_changed_in_between_is_not_changed(client, services, studio, monkeypatch):
    org_id, headers = studio
    tag = client.get("/v1/credits", headers=headers).headers["ETag"]
    real = services.credits.change_plan

    def after_another(**given):
        services.plans[org_id] = "team"
        return real(**given)

    monkeypatch.setattr(services.credits, "change_plan", after_another)

    answer = client.put("/v1/plan", json={"plan": "free"}, headers={**headers, "If-Match": tag})

    assert (answer.status_code, answer.json["current"]["plan"]) == (412, "team")


CHANGES = {
    "/v1/me": ("PATCH", [{"name": "Ada"}, {"name": "Mary"}]),
    "/v1/me/defaults": ("PUT", [{"aspect_ratio": "1:1", "variety_level": level} for level in (3, 4)]),
}


@pytest.mark.parametrize("path", CHANGES)
def test_what_is_ones_own_is_changed_only_as_it_was_seen(client, studio, path):
    _, grace = join(client, studio[1])
    method, (first, second) = CHANGES[path]
    tag = client.get(path, headers=grace).headers["ETag"]
    change = {"method": method, "headers": {**grace, "If-Match": tag}}

    seen, stale = client.open(path, json=first, **change), client.open(path, json=second, **change)

    assert (seen.status_code, stale.status_code) == (200, 412)
    assert stale.json["current"].items() >= first.items()
    assert (
        client.open(path, json=second, **{**change, "headers": {**grace, "If-Match": stale.json["etag"]}}).status_code
        == 200
    )


@pytest.mark.parametrize("path", CHANGES)
def test_of_two_who_change_what_both_saw_one_is_told(client, studio, path):
    _, grace = join(client, studio[1])
    method, bodies = CHANGES[path]
    tag = client.get(path, headers=grace).headers["ETag"]
    change = {"method": method, "headers": {**grace, "If-Match": tag}}

    statuses = at_once(
        client, *[lambda own, body=body: own.open(path, json=body, **change).status_code for body in bodies]
    )

    assert sorted(statuses) == [200, 412]


def test_a_member_is_changed_only_as_it_was_seen(client, studio):
    _, headers = studio
    user_id, _ = join(client, headers)
    path = f"/v1/members/{user_id}"
    [seen] = [one for one in client.get("/v1/members", headers=headers).json["data"] if one["id"] == user_id]
    tag = f'"{seen["version"]}-of-a-list"'

    def change(own, role):
        return own.patch(path, json={"role": role}, headers={**headers, "If-Match": tag}).status_code

    statuses = at_once(client, lambda own: change(own, "viewer"), lambda own: change(own, "owner"))
    stale = client.patch(path, json={"role": "editor"}, headers={**headers, "If-Match": '"999-x"'})

    assert sorted(statuses) == [200, 412]
    assert (stale.status_code, stale.json["current"]["id"]) == (412, user_id)
    assert change(client, "editor") == 412
