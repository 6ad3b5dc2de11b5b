"""Conditional requests on the routes of the gateway."""

import pytest


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
