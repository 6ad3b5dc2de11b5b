"""Cancelling, hurrying and repeating a job over HTTP, and reading what happened to it."""

import pytest
import sqlalchemy as sa

from services.gateway.models import ApiKey
from shared.ids import new_id
from shared.problems import InsufficientCredits


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def job_id(client, headers, org_id, a_staging):
    answer = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "first"})
    return answer.json["id"]


@pytest.fixture
def retry(client, headers, job_id):
    def post(body=None, *, key="again", **more):
        path = f"/v1/jobs/{job_id}/retry"
        return client.post(path, json=body or {}, headers={**headers, "Idempotency-Key": key, **more})

    return post


def test_a_cancelled_job_is_shown_as_it_is_then(client, services, headers, job_id, org_id):
    cancelled = client.post(f"/v1/jobs/{job_id}/cancel", headers=headers)
    again = client.post(f"/v1/jobs/{job_id}/cancel", headers=headers)

    assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")
    assert again.json == cancelled.json
    assert services.generation.asked("cancel") == [{"org_id": org_id, "livemode": True, "job_id": job_id}] * 2


def test_a_job_that_is_still_being_cancelled_says_when_to_look_again(client, services, headers, job_id):
    services.generation.methods["cancel"] = lambda **_: {**services.jobs[job_id], "status": "cancelling"}

    answer = client.post(f"/v1/jobs/{job_id}/cancel", headers=headers)

    assert (answer.json["status"], answer.headers["Retry-After"]) == ("cancelling", "5")


def test_syncing_answers_with_the_job(client, services, headers, job_id):
    answer = client.post(f"/v1/jobs/{job_id}/sync", headers=headers)

    assert (answer.status_code, answer.json["id"], answer.headers["Retry-After"]) == (200, job_id, "5")
    assert [asked["job_id"] for asked in services.generation.asked("sync")] == [job_id]


def test_a_retry_is_a_new_job_that_is_paid_for(services, retry, job_id, org_id):
    services.finish(job_id, "failed")

    answer = retry({"settings": {"style": "rustic"}, "deadline_seconds": 600})

    job = answer.json
    (asked,) = services.generation.asked("retry")
    assert (answer.status_code, job["retry_of"]) == (202, job_id)
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["id"] != job_id
    assert job["balance"] == {"available": 80, "held": 20, "version": 2}
    assert asked == {
        "org_id": org_id,
        "livemode": True,
        "job_id": job_id,
        "new_job_id": job["id"],
        "user_id": asked["user_id"],
        "generation_ids": None,
        "settings": {"style": "rustic"},
        "deadline_seconds": 600,
        "quote_id": None,
        "on_insufficient": None,
        "dry_run": False,
        "fresh": False,
        "cap_id": None,
        "daily_cap": None,
    }


def test_the_same_retry_is_one_job_however_often_it_is_sent(services, retry, job_id):
    services.finish(job_id, "failed")

    answers = [retry({"settings": {"style": "rustic"}}) for _ in range(3)]

    assert {answer.json["id"] for answer in answers} == {answers[0].json["id"]}
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]
    assert len(services.jobs) == 2


def test_a_retry_whose_answer_was_lost_is_the_same_job_the_next_time(services, retry, job_id):
    services.finish(job_id, "failed")
    services.lose_next_answer = True

    lost, found = retry(), retry()

    assert (lost.status_code, found.status_code) == (503, 202)
    assert len(services.jobs) == 2
    assert len(services.generation.asked("retry")) == 1


def test_a_retry_without_a_key_is_refused(client, headers, services, job_id):
    services.finish(job_id, "failed")

    answer = client.post(f"/v1/jobs/{job_id}/retry", json={}, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (400, "idempotency_key_required")


def test_a_retry_can_be_tried_dry(client, headers, services, job_id):
    services.finish(job_id, "failed")

    answer = client.post(f"/v1/jobs/{job_id}/retry", json={"dry_run": True}, headers=headers)

    assert (answer.status_code, answer.json["dry_run"], answer.json["amount"]) == (200, True, 20)
    assert len(services.jobs) == 1


def test_a_job_that_goes_on_cannot_be_made_again(services, retry):
    answer = retry()

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert len(services.jobs) == 1


def test_a_retry_nobody_can_pay_for_is_refused_with_the_numbers(services, retry, job_id):
    services.finish(job_id, "failed")
    services.refusal = InsufficientCredits("You need 20 credits and have 5.", required=20, available=5, unit="credits")

    answer = retry()

    assert (answer.status_code, answer.json["required"]) == (402, 20)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"generation_ids": []}, "/generation_ids"),
        ({"generation_ids": ["gen_1"]}, "/generation_ids/0"),
        ({"generation_ids": "all"}, "/generation_ids"),
        ({"settings": []}, "/settings"),
        ({"on_insufficient": "shrug"}, "/on_insufficient"),
        ({"deadline_seconds": 1}, "/deadline_seconds"),
        ({"workflow": "studio"}, "/workflow"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(services, retry, job_id, body, pointer):
    services.finish(job_id, "failed")

    answer = retry(body)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert services.generation.asked("retry") == []


def test_a_key_for_other_workflows_cannot_have_a_job_made_again(gateway, services, retry, job_id, org_id):
    services.finish(job_id, "failed")
    with gateway.db.transaction() as session:
        session.execute(sa.update(ApiKey).where(ApiKey.org_id == org_id).values(workflows=["headshot"]))
    gateway.known_keys.forget()

    answer = retry()

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert services.generation.asked("retry") == []


def test_who_prefers_to_wait_gets_the_finished_retry(services, retry, job_id):
    services.finish(job_id, "failed")
    look = services.generation.methods["job"]

    def job(job_id, **owner):
        if services.jobs[job_id].get("retry_of"):
            services.finish(job_id)
        return look(job_id=job_id, **owner)

    services.generation.methods["job"] = job

    answer = retry(Prefer="wait=10")

    assert (answer.status_code, answer.json["status"]) == (200, "succeeded")


def test_attempts_tell_nothing_internal(client, services, headers, job_id, org_id):
    path = f"/v1/jobs/{job_id}/attempts"

    everything = client.get(f"{path}?limit=5&after=op_1/000001", headers=headers).json
    live = client.get(f"{path}?live=true", headers=headers).json

    (attempt,) = everything["data"]
    assert (attempt["status"], attempt["reason"], attempt["provider"]) == ("failed", "rate_limited", "fal")
    assert not {"cost_microusd", "external_id"} & attempt.keys()
    assert live["data"] == []
    owner = {"org_id": org_id, "livemode": True, "job_id": job_id}
    assert services.generation.asked("attempts") == [
        {**owner, "live": False, "limit": 5, "after": "op_1/000001"},
        {**owner, "live": True, "limit": 50, "after": None},
    ]


@pytest.mark.parametrize("query", ["live=1", "live=yes", "live=", "limit=0", "status=failed"])
def test_attempts_are_filtered_by_what_there_is(client, headers, job_id, query):
    assert client.get(f"/v1/jobs/{job_id}/attempts?{query}", headers=headers).status_code == 400


def test_the_timeline_tells_what_happened(client, headers, job_id):
    answer = client.get(f"/v1/jobs/{job_id}/timeline", headers=headers)

    assert [step["what"] for step in answer.json["data"]] == ["job_accepted"]


@pytest.mark.parametrize(
    ("method", "what"),
    [("POST", "cancel"), ("POST", "sync"), ("POST", "retry"), ("GET", "attempts"), ("GET", "timeline")],
)
def test_of_a_job_that_is_not_there_nothing_can_be_asked(client, services, headers, method, what):
    body = {} if what == "retry" else None
    keyed = {**headers, "Idempotency-Key": "k"}

    answer = client.open(f"/v1/jobs/{new_id('job')}/{what}", method=method, json=body, headers=keyed)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert services.jobs == {}
