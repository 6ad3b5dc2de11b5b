"""One request sent again and again, at once or after a crash, is one job and one hold."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from shared.ids import new_id
from tests.e2e.steps import NewClient, finished, get, post, settled
from tests.faults.client import Client
from tests.faults.stack import Stack
from tests.polling import until

pytestmark = pytest.mark.stack

AT_ONCE = 50


def insisting(client: Client, body: dict[str, object], *, key: str) -> list[requests.Response]:
    """Send a request, again while the first of its kind is still being answered; return all answers."""
    answers: list[requests.Response] = []

    def answered() -> bool:
        answers.append(post(client, "/v1/stagings", body, key=key))
        return answers[-1].status_code != 409

    until(answered, seconds=30, what="an answer that is not 409")
    return answers


def test_fifty_at_once_with_one_key_are_one_job_and_one_hold(new_client: NewClient) -> None:
    client = new_client(1000)
    body = {"upload_id": client.upload(), "style": "modern", "room_type": "bedroom", "variants": 1}
    key = new_id("key")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: insisting(client, body, key=key), range(AT_ONCE)))
    (job_id,) = {last.json()["id"] for *_, last in answers}
    other = post(client, "/v1/stagings", {**body, "style": "rustic"}, key=key)
    finished(client, job_id)
    settled(client)

    last_ones = [last for *_, last in answers]
    early = [answer for *first, _ in answers for answer in first]
    replayed = Counter(answer.headers.get("Idempotency-Replayed") for answer in last_ones)
    assert len(last_ones) == AT_ONCE
    assert {answer.status_code for answer in last_ones} == {202}
    assert replayed == {None: 1, "true": AT_ONCE - 1}
    assert {(answer.status_code, answer.json()["code"]) for answer in early} <= {(409, "request_in_progress")}
    assert all("Retry-After" in answer.headers for answer in early)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert [job["id"] for job in get(client, "/v1/jobs")["data"]] == [job_id]
    held = get(client, "/v1/credits/entries?kind=hold")["data"]
    assert [entry["job_id"] for entry in held] == [job_id]
    assert client.wallet()["available"] == 990


@pytest.mark.parametrize("point", ["gateway.job_submitted", "gateway.answered"])
def test_a_gateway_that_dies_between_accepting_and_answering_answers_the_same_job_later(
    new_client: NewClient, stack: Stack, point: str
) -> None:
    client = new_client(100)
    body = {"upload_id": client.upload(), "style": "modern", "room_type": "bedroom", "variants": 1}
    key = new_id("key")

    stack.arm(point)
    with pytest.raises(requests.ConnectionError):
        post(client, "/v1/stagings", body, key=key)
    answer = until(lambda: answered_at_last(client, body, key=key), seconds=60, what="an answer")
    (job,) = get(client, "/v1/jobs")["data"]

    assert not stack.armed
    assert (answer.status_code, answer.json()["id"]) == (202, job["id"])
    finished(client, job["id"])
    assert settled(client)["available"] == 90


def answered_at_last(client: Client, body: dict[str, object], *, key: str) -> requests.Response | None:
    """Send a request again; None while the gateway is not back, or still has the request of before."""
    try:
        answer = post(client, "/v1/stagings", body, key=key)
    except requests.ConnectionError:
        return None
    return None if answer.status_code in {409, 503} else answer
