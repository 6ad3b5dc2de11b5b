"""Asking for jobs, following them, waiting for them."""

import time

import pytest

from shared.ids import new_id
from shared.problems import InsufficientCredits, Unavailable

KEY = {"Idempotency-Key": "k1"}


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def headers(studio):
    return {**studio[1], **KEY}


def test_an_accepted_staging_says_where_to_look_and_what_it_holds(client, services, org_id, headers, a_staging):
    body = a_staging(org_id)

    answer = client.post("/v1/stagings", json=body, headers=headers)

    job = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "5"
    assert job["balance"] == {"available": 80, "held": 20, "version": 2}
    assert "org_id" not in job
    [asked] = services.generation.asked("submit")
    assert asked["inputs"] == {**body, "variants": 2}
    assert (asked["workflow"], asked["livemode"], asked["deadline_seconds"]) == ("staging", True, None)
    assert asked["user_id"].startswith("usr_")
    assert list(asked["assets"]) == [body["upload_id"]]
    assert asked["assets"][body["upload_id"]]["key"].startswith(f"assets/{org_id}/")


def test_a_202_has_the_balance_also_where_nothing_is_held_for_the_job(client, services, org_id, headers, a_staging):
    submit = services.generation.methods["submit"]
    services.generation.methods["submit"] = lambda **asked: {**submit(**asked), "balance": None}

    answer = client.post("/v1/stagings", json=a_staging(org_id), headers=headers)

    assert answer.status_code == 202
    assert answer.json["balance"] == {"available": 100, "held": 0, "version": 1}


def test_the_same_job_can_be_asked_for_by_its_workflow(client, services, org_id, headers, a_staging):
    inputs = a_staging(org_id, variants=1)

    answer = client.post(
        "/v1/jobs", json={"workflow": "staging", "inputs": inputs, "deadline_seconds": 600}, headers=headers
    )

    assert answer.status_code == 202
    [asked] = services.generation.asked("submit")
    assert asked["inputs"] == inputs
    assert asked["deadline_seconds"] == 600


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"style": "baroque"}, "/style"),
        ({"room_type": "cellar"}, "/room_type"),
        ({"variants": 0}, "/variants"),
        ({"variants": 9}, "/variants"),
        ({"variants": "2"}, "/variants"),
        ({"variants": 1.5}, "/variants"),
        ({"upload_id": "ast_1"}, "/upload_id"),
        ({"upload_id": None}, "/upload_id"),
        ({"org_id": "org_1"}, "/org_id"),
        ({"deadline_seconds": 1}, "/deadline_seconds"),
    ],
)
def test_a_staging_that_cannot_be_is_refused_before_anyone_is_asked(
    client, services, org_id, headers, a_staging, change, pointer
):
    body = {**a_staging(org_id), **change}

    answer = client.post("/v1/stagings", json=body, headers=headers)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert services.generation.calls == []
    assert services.catalog.asked("resolve") == []


@pytest.mark.parametrize(
    ("inputs", "pointer"),
    [({}, "/inputs/upload_id"), ({"upload_id": 1}, "/inputs/style"), ({"style": {"a": 1}}, "/inputs/upload_id")],
)
def test_the_inputs_of_a_job_are_checked_by_the_contract_of_its_workflow(client, headers, inputs, pointer):
    answer = client.post("/v1/jobs", json={"workflow": "staging", "inputs": inputs}, headers=headers)

    assert answer.status_code == 400
    assert pointer in [error["pointer"] for error in answer.json["errors"]]


def test_a_workflow_nobody_knows_is_refused(client, headers):
    answer = client.post("/v1/jobs", json={"workflow": "alchemy", "inputs": {}}, headers=headers)

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "/workflow"


def test_an_upload_that_is_not_there_is_told_by_its_id(client, headers, org_id, a_staging):
    body = {**a_staging(org_id), "upload_id": new_id("ast")}

    answer = client.post("/v1/stagings", json=body, headers=headers)

    assert answer.status_code == 404


def test_too_few_credits_are_told_with_the_numbers(client, services, headers, org_id, a_staging):
    services.refusal = InsufficientCredits("You need 20 credits and have 5.", required=20, available=5, unit="credits")

    answer = client.post("/v1/stagings", json=a_staging(org_id), headers=headers)

    assert answer.status_code == 402
    assert (answer.json["required"], answer.json["available"]) == (20, 5)


@pytest.mark.parametrize("name", ["catalog", "generation"])
def test_a_service_that_does_not_answer_is_503(client, services, headers, org_id, a_staging, name):
    body = a_staging(org_id)
    getattr(services, name).down = True

    answer = client.post("/v1/stagings", json=body, headers=headers)

    assert (answer.status_code, answer.json["retryable"]) == (503, True)


def test_a_job_is_polled_every_five_seconds_until_it_has_ended(client, services, headers, org_id, a_staging):
    job_id = client.post("/v1/stagings", json=a_staging(org_id), headers=headers).json["id"]

    running = client.get(f"/v1/jobs/{job_id}", headers=headers)
    services.finish(job_id)
    done = client.get(f"/v1/jobs/{job_id}", headers=headers)

    assert running.headers["Retry-After"] == "5"
    assert "Retry-After" not in done.headers
    [image] = done.json["generations"][0]["images"]
    assert image["url"].startswith(f"http://files.test/files/images/{org_id}/{image['id']}/1.jpg?expires=")
    assert image["thumbnail_url"].startswith("http://files.test/files/images/")
    assert not {"key", "thumbnail_key", "org_id"} & image.keys()
    assert image["provenance"] == {"provider": "local", "model": "preview"}


def test_lists_hand_the_filters_on(client, services, headers, org_id, a_staging):
    job_id = client.post("/v1/stagings", json=a_staging(org_id), headers=headers).json["id"]

    jobs = client.get(f"/v1/jobs?workflow=staging&status=queued&limit=3&after={job_id}", headers=headers)
    generations = client.get(f"/v1/jobs/{job_id}/generations?status=failed", headers=headers)

    assert [job["id"] for job in jobs.json["data"]] == [job_id]
    assert (jobs.json["has_more"], jobs.json["next_cursor"]) == (False, None)
    assert generations.json["data"] == []
    assert services.generation.asked("jobs") == [
        {"org_id": org_id, "livemode": True, "workflow": "staging", "status": "queued", "limit": 3, "after": job_id}
    ]
    assert services.generation.asked("job_generations") == [
        {"org_id": org_id, "livemode": True, "job_id": job_id, "status": "failed", "limit": 50, "after": None}
    ]


@pytest.mark.parametrize("query", ["status=done", "limit=201", "after=%27", "organization=org_1"])
def test_a_filter_that_makes_no_sense_is_refused(client, headers, query):
    assert client.get(f"/v1/jobs?{query}", headers=headers).status_code == 400


def test_who_prefers_to_wait_gets_the_finished_job(client, services, headers, org_id, a_staging):
    body = a_staging(org_id)
    polls = []
    look = services.generation.methods["job"]

    def job(job_id, **owner):
        polls.append(job_id)
        if len(polls) == 2:
            services.finish(job_id, "failed")
        return look(job_id=job_id, **owner)

    services.generation.methods["job"] = job
    first = client.post("/v1/stagings", json=body, headers={**headers, "Prefer": "wait=30"})
    again = client.post("/v1/stagings", json=body, headers={**headers, "Prefer": "wait=30"})
    impatient = client.post("/v1/stagings", json=body, headers=headers)

    assert (first.status_code, first.json["status"]) == (200, "failed")
    assert first.headers["Preference-Applied"] == "wait=30"
    assert (again.status_code, again.json["id"]) == (200, first.json["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (impatient.status_code, impatient.json["status"]) == (202, "queued")


def test_who_waits_in_vain_gets_the_202(client, headers, org_id, a_staging):
    started = time.monotonic()

    answer = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Prefer": "wait=1"})

    assert answer.status_code == 202
    assert 1 <= time.monotonic() - started < 3


def test_a_generation_service_that_falters_does_not_end_the_wait(client, services, headers, org_id, a_staging):
    look = services.generation.methods["job"]
    polls = []

    def job(job_id, **owner):
        polls.append(job_id)
        if len(polls) == 1:
            raise Unavailable
        services.finish(job_id)
        return look(job_id=job_id, **owner)

    services.generation.methods["job"] = job

    answer = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Prefer": "wait=10"})

    assert (answer.status_code, len(polls)) == (200, 2)
