"""What is to be seen on a photo is found out once, over HTTP on the real stack."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.e2e.steps import NewClient, finished, get, post
from tests.faults.client import Client
from tests.faults.stack import Stack
from tests.polling import until

pytestmark = pytest.mark.stack


def an_analysis(upload_id: str, **terms: Any) -> dict[str, Any]:
    return {"workflow": "photo_analysis", "inputs": {"upload_ids": [upload_id]}, **terms}


def provider_calls(stack: Stack) -> float:
    """Return how often the worker has asked a provider for anything."""
    environment = (stack.home / "env").read_text()
    found = re.search(r"^GENERATION_WORKER_OPS_ADDRESS=(\S+)$", environment, re.MULTILINE)
    assert found
    told = requests.get(f"http://{found[1]}/metrics", timeout=10).text
    return sum(float(count) for count in re.findall(r"^darkroom_operations_total\{.*\} (\S+)$", told, re.MULTILINE))


def test_the_second_time_an_analysis_is_there_at_once_and_nobody_is_asked(stack: Stack, new_client: NewClient) -> None:
    client = new_client(10)
    upload_id = client.upload(401)
    accepted = post(client, "/v1/jobs", an_analysis(upload_id))
    first = finished(client, accepted.json()["id"])
    calls = provider_calls(stack)

    began = time.monotonic()
    second = post(client, "/v1/jobs", an_analysis(upload_id), key="again")
    took = time.monotonic() - began
    replayed = post(client, "/v1/jobs", an_analysis(upload_id), key="again")

    assert (accepted.status_code, accepted.headers["Cache-Status"]) == (202, "darkroom; fwd=miss")
    assert (second.status_code, second.headers["Cache-Status"]) == (200, "darkroom; hit")
    assert took < 1
    job = second.json()
    assert (job["status"], job["charged"], job["cache"]["hits"]) == ("succeeded", 0, 1)
    assert job["generations"][0]["result"] == first["generations"][0]["result"]
    assert re.fullmatch("#[0-9a-f]{6}", job["generations"][0]["result"]["colors"][0]["hex"])
    assert get(client, f"/v1/jobs/{job['id']}")["status"] == "succeeded"
    assert len(get(client, f"/v1/jobs/{first['id']}/attempts")["data"]) == 1
    assert get(client, f"/v1/jobs/{job['id']}/attempts")["data"] == []
    assert (replayed.status_code, replayed.headers["Cache-Status"]) == (200, "darkroom; hit")
    assert (replayed.headers["Idempotency-Replayed"], replayed.json()) == ("true", job)
    assert provider_calls(stack) == calls
    assert client.wallet() == {**client.wallet(), "available": 10, "held": 0}


def test_another_organization_and_a_fresh_request_ask_again(stack: Stack, new_client: NewClient) -> None:
    client, other = new_client(10), new_client(10)
    upload_id = client.upload(402)
    finished(client, post(client, "/v1/jobs", an_analysis(upload_id)).json()["id"])
    calls = provider_calls(stack)

    theirs = post(other, "/v1/jobs", an_analysis(other.upload(402)))
    finished(other, theirs.json()["id"])
    fresh = post(client, "/v1/jobs", an_analysis(upload_id, fresh=True))
    finished(client, fresh.json()["id"])

    assert theirs.headers["Cache-Status"] == "darkroom; fwd=miss"
    assert (fresh.status_code, fresh.headers["Cache-Status"]) == (202, "darkroom; fwd=request")
    assert until(lambda: provider_calls(stack) == calls + 2, what="both calls to be counted")


def test_twenty_at_once_of_one_picture_are_one_call(stack: Stack, new_client: NewClient) -> None:
    client = new_client(10)
    upload_id = client.upload(403)
    calls = provider_calls(stack)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(client, "/v1/jobs", an_analysis(upload_id)), range(20)))
    jobs = [finished(client, answer.json()["id"]) for answer in answers]

    assert {job["status"] for job in jobs} == {"succeeded"}
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert provider_calls(stack) == calls + 1


def test_a_part_that_is_known_is_told(new_client: NewClient) -> None:
    client = new_client(10)
    known, new = client.upload(404), client.upload(405)
    finished(client, post(client, "/v1/jobs", an_analysis(known)).json()["id"])

    both = {"workflow": "photo_analysis", "inputs": {"upload_ids": [known, new], "kind": "look"}}
    answer = post(client, "/v1/jobs", both)
    job = finished(client, answer.json()["id"])

    assert (answer.status_code, answer.headers["Cache-Status"]) == (202, 'darkroom; fwd=partial; detail="1 of 2"')
    assert [generation["status"] for generation in job["generations"]] == ["succeeded"] * 2


def test_a_process_that_dies_just_before_it_has_taken_what_is_known_changes_nothing(
    stack: Stack, new_client: NewClient
) -> None:
    client = new_client(10)
    upload_id = client.upload(406)
    finished(client, post(client, "/v1/jobs", an_analysis(upload_id)).json()["id"])
    stack.arm("analyses.before_commit")

    job = finished(client, sent_until_answered(client, an_analysis(upload_id)))

    assert not stack.armed
    assert (job["status"], job["charged"], job["cache"]["hits"]) == ("succeeded", 0, 1)
    mine = [one["id"] for one in get(client, "/v1/jobs?workflow=photo_analysis")["data"]]
    assert len(mine) == 2


def sent_until_answered(client: Client, body: dict[str, Any]) -> str:
    """Send the same request until it is answered; return the job's id."""
    return until(
        lambda: answer.json()["id"] if (answer := post(client, "/v1/jobs", body, key="once")).ok else None,
        seconds=60,
        what="an answer",
    )
