"""A person's own: profile, what new sessions begin with, the step to take next, and the dashboard."""

import pytest

from shared.ids import new_id
from tests.service.gateway.people import join


@pytest.fixture
def grace(client, studio):
    return join(client, studio[1])[1]


def a_photo(services, org_id, purpose="profile"):
    asset_id = new_id("ast")
    services.catalog.register_asset(asset_id=asset_id, org_id=org_id, livemode=True, purpose=purpose, key="k", bytes=1)
    return asset_id


def test_a_person_sees_who_they_are(client, studio, grace):
    me = client.get("/v1/me", headers=grace).json

    assert (me["email"], me["name"], me["role"], me["credential"]) == (
        "grace@example.com",
        "Grace",
        "editor",
        "session",
    )
    assert me["organization"] == {"id": studio[0], "name": "A studio"}
    assert me["terms_version"] == "1"
    assert me["terms_accepted_at"] == me["joined_at"]
    assert me["defaults"] == {"aspect_ratio": "1:1", "variety_level": 5}
    assert me["product_count"] == 0


def test_a_key_tells_whose_it_is_and_what_it_may(client, studio):
    me = client.get("/v1/me", headers=studio[1]).json

    assert (me["role"], me["credential"], me["livemode"]) == ("owner", "key", True)
    assert me["scopes"] == ["manage", "read", "spend", "write"]


def test_the_next_step_is_a_name_then_a_job_then_nothing(client, studio, grace, a_staging):
    org_id, key = studio
    assert client.get("/v1/me", headers=key).json["onboarding_step"] == "profile"
    assert client.get("/v1/me", headers=grace).json["onboarding_step"] == "first_job"

    client.post("/v1/stagings", json=a_staging(org_id), headers={**grace, "Idempotency-Key": "a"})

    assert client.get("/v1/me", headers=grace).json["onboarding_step"] == "done"


def test_who_one_is_can_be_told_while_jobs_cannot_be_looked_up(client, grace, services):
    services.generation.down = True

    answer = client.get("/v1/me", headers=grace)

    assert (answer.status_code, answer.json["onboarding_step"]) == (200, None)


def test_name_and_photo_change_and_what_is_left_out_stays(client, studio, grace, services):
    photo = a_photo(services, studio[0])

    named = client.patch("/v1/me", json={"name": "Grace H."}, headers=grace).json
    pictured = client.patch("/v1/me", json={"photo_upload_id": photo}, headers=grace).json
    same = client.patch("/v1/me", json={"name": "Grace H."}, headers=grace).json
    without = client.patch("/v1/me", json={"photo_upload_id": None}, headers=grace).json

    assert [(one["name"], one["photo_upload_id"], one["version"]) for one in (named, pictured, same, without)] == [
        ("Grace H.", None, 2),
        ("Grace H.", photo, 3),
        ("Grace H.", photo, 3),
        ("Grace H.", None, 4),
    ]


def test_a_photo_is_an_upload_of_ones_own_organization_for_that_purpose(
    client, studio, an_organization, grace, services
):
    other = an_organization()[0]
    bodies = [a_photo(services, studio[0], purpose="room"), a_photo(services, other), new_id("ast"), "photo.jpg"]

    statuses = [client.patch("/v1/me", json={"photo_upload_id": one}, headers=grace).status_code for one in bodies]

    assert statuses == [400, 404, 404, 400]


def test_role_and_address_are_not_ones_own_to_change(client, grace):
    for body in ({"role": "owner"}, {"email": "other@example.com"}, {"org_id": "org_1"}):
        assert client.patch("/v1/me", json=body, headers=grace).status_code == 400


def test_defaults_are_kept_for_each_person(client, studio, grace):
    _, mary = join(client, studio[1], "mary@example.com", role="viewer")
    chosen = {"aspect_ratio": "16:9", "variety_level": 9}

    answer = client.put("/v1/me/defaults", json=chosen, headers=mary)

    assert (answer.status_code, answer.json) == (200, chosen)
    assert client.get("/v1/me/defaults", headers=mary).json == chosen
    assert client.get("/v1/me/defaults", headers=grace).json == {"aspect_ratio": "1:1", "variety_level": 5}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"aspect_ratio": "16:9"},
        {"aspect_ratio": "16:10", "variety_level": 5},
        {"aspect_ratio": "1:1", "variety_level": 0},
        {"aspect_ratio": "1:1", "variety_level": 11},
        {"aspect_ratio": "1:1", "variety_level": "5"},
    ],
)
def test_defaults_that_make_no_sense_are_refused(client, grace, body):
    assert client.put("/v1/me/defaults", json=body, headers=grace).status_code == 400


def test_the_dashboard_is_one_call(client, studio, grace, a_staging, services):
    org_id, _ = studio
    jobs = [
        client.post("/v1/stagings", json=a_staging(org_id), headers={**grace, "Idempotency-Key": key}).json["id"]
        for key in "ab"
    ]
    services.jobs[jobs[0]]["status"] = "succeeded"

    shown = client.get("/v1/dashboard", headers=grace).json

    assert shown["organization"] == {"id": org_id, "name": "A studio"}
    assert (shown["products"], shown["sessions"]) == ({"total": 0}, [])
    assert (shown["jobs"]["active"], [job["id"] for job in shown["jobs"]["data"]]) == (1, [jobs[1]])
    assert shown["credits"]["available"] == 100
    assert shown["onboarding_step"] == "done"


def test_the_dashboard_shows_nothing_of_others(client, an_organization, grace, a_staging):
    other, key = an_organization()
    client.post("/v1/stagings", json=a_staging(other), headers={**key, "Idempotency-Key": "a"})

    assert client.get("/v1/dashboard", headers=grace).json["jobs"] == {"active": 0, "data": []}
