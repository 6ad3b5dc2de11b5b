"""What a client is told of what was known: a finished job at once, and `Cache-Status`."""

import pytest

from services.gateway.jobs import cache_status
from shared.ids import new_id

KEY = {"Idempotency-Key": "k1"}
TIME = "2026-01-01T00:00:00Z"
KNOWN = {"operations": 2, "hits": 2, "fresh": False}
GENERATION = {
    "id": new_id("gen"),
    "number": 1,
    "status": "succeeded",
    "failure": None,
    "charged": 0,
    "images": [],
    "result": {"summary": "a chair"},
}


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def headers(studio):
    return {**studio[1], **KEY}


@pytest.fixture
def an_analysis(an_upload):
    """Give the body of a request for the analysis of a photo."""

    def make(org_id, **terms):
        return {"workflow": "photo_analysis", "inputs": {"upload_ids": [an_upload(org_id)]}, **terms}

    return make


@pytest.fixture
def knowing(services):
    """Let generation answer with a job of which so much is known."""
    submit = services.generation.methods["submit"]

    def know(cache, **job):
        def submitted(**asked):
            answer = submit(**asked)
            answer["job"].update(cache=cache, **job)
            return {**answer, "balance": None}

        services.generation.methods["submit"] = submitted

    return know


ENDED = {"status": "succeeded", "finished_at": TIME, "reserved": 0, "generations": [GENERATION]}


def test_a_job_of_which_all_is_known_is_finished_with_the_answer(client, org_id, headers, an_analysis, knowing):
    knowing(KNOWN, **ENDED)

    answer = client.post("/v1/jobs", json=an_analysis(org_id), headers=headers)

    assert answer.status_code == 200
    assert answer.headers["Cache-Status"] == "darkroom; hit"
    assert answer.headers["Content-Location"] == f"/v1/jobs/{answer.json['id']}"
    assert "Retry-After" not in answer.headers
    assert answer.json["generations"][0]["result"] == {"summary": "a chair"}
    assert answer.json["cache"] == KNOWN
    assert answer.json["balance"] == {"available": 100, "held": 0, "version": 1}


def test_the_same_request_again_has_the_same_answer(client, services, org_id, headers, an_analysis, knowing):
    knowing(KNOWN, **ENDED)
    body = an_analysis(org_id)
    first = client.post("/v1/jobs", json=body, headers=headers)

    again = client.post("/v1/jobs", json=body, headers=headers)

    assert (again.status_code, again.json) == (200, first.json)
    assert again.headers["Cache-Status"] == "darkroom; hit"
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(services.generation.asked("submit")) == 1


def test_an_answer_that_got_lost_is_given_to_whoever_asks_again(
    client, services, org_id, headers, an_analysis, knowing
):
    knowing(KNOWN, **ENDED)
    body = an_analysis(org_id)
    services.lose_next_answer = True
    lost = client.post("/v1/jobs", json=body, headers=headers)
    [job] = services.jobs.values()
    job.update(cache=KNOWN, **ENDED)

    again = client.post("/v1/jobs", json=body, headers=headers)

    assert (lost.status_code, again.status_code) == (503, 200)
    assert again.headers["Cache-Status"] == "darkroom; hit"


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        ({"operations": 5, "hits": 3, "fresh": False}, 'darkroom; fwd=partial; detail="3 of 5"'),
        ({"operations": 5, "hits": 0, "fresh": False}, "darkroom; fwd=miss"),
        ({"operations": 5, "hits": 0, "fresh": True}, "darkroom; fwd=request"),
        (None, None),
    ],
)
def test_what_is_not_all_known_is_accepted_and_says_how_much_is(
    client, org_id, headers, an_analysis, knowing, cache, told
):
    knowing(cache)

    answer = client.post("/v1/jobs", json=an_analysis(org_id), headers=headers)

    assert answer.status_code == 202
    assert answer.headers.get("Cache-Status") == told
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"


def test_whoever_waits_for_the_end_is_told_too(client, org_id, headers, an_analysis, knowing):
    knowing({"operations": 2, "hits": 1, "fresh": False}, **{**ENDED, "status": "partially_succeeded"})

    answer = client.post("/v1/jobs", json=an_analysis(org_id), headers={**headers, "Prefer": "wait=5"})

    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=5")
    assert answer.headers["Cache-Status"] == 'darkroom; fwd=partial; detail="1 of 2"'


def test_an_image_that_was_made_is_no_hit() -> None:
    made = {**GENERATION, "images": [{"id": "img_1"}]}

    assert cache_status({"cache": KNOWN, "status": "succeeded", "generations": [made]}) != "darkroom; hit"
    assert cache_status({"cache": KNOWN, "status": "succeeded", "generations": [GENERATION]}) == "darkroom; hit"


@pytest.mark.parametrize("fresh", [True, False])
def test_the_wish_for_a_fresh_answer_is_handed_on(client, services, org_id, headers, an_analysis, fresh):
    client.post("/v1/jobs", json=an_analysis(org_id, fresh=fresh), headers=headers)

    [asked] = services.generation.asked("submit")
    assert asked["fresh"] is fresh
