"""A request is sent again where that may help, and never does its work twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom_client import (
    Darkroom,
    InvalidRequest,
    NoAnswer,
    RateLimited,
    RequestInProgress,
    ServerFailed,
    ServiceUnavailable,
    retries,
)
from tests.clients.answers import UPLOAD, WALLET, a_job, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted

ROOM = {"style": "modern", "room_type": "bedroom"}


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        a_problem(429, "rate_limited"),
        Scripted(status=502, body=b"<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
        a_problem(503, "service_unavailable"),
        Scripted(status=504),
        a_problem(409, "request_in_progress"),
        Scripted(body=a_job(), status=202, cut_after=20),
    ],
    ids=["hung up", "429", "502", "503", "504", "in progress", "broken off"],
)
def test_what_may_pass_is_sent_again_with_the_same_key(play: Play, trouble: Scripted | None) -> None:
    darkroom, server = play(trouble, trouble, Scripted(status=202, body=a_job()))

    job = darkroom.stagings.create("ast_1", **ROOM)

    assert job.id == "job_1"
    assert len(server.asked) == 3
    assert len({each.headers["Idempotency-Key"] for each in server.asked}) == 1
    assert len({each.body for each in server.asked}) == 1


@pytest.mark.parametrize(
    ("trouble", "raised"),
    [
        (a_problem(400, "validation_failed"), InvalidRequest),
        (a_problem(402, "daily_cap_reached", retryable=True), Exception),
        (a_problem(409, "quote_used"), Exception),
        (a_problem(422, "idempotency_key_reused"), InvalidRequest),
        (a_problem(500, "internal_error"), ServerFailed),
    ],
    ids=["400", "402", "409", "422", "500"],
)
def test_what_will_not_pass_is_sent_once(play: Play, trouble: Scripted, raised: type[Exception]) -> None:
    darkroom, server = play(trouble)

    with pytest.raises(raised):
        darkroom.stagings.create("ast_1", **ROOM)

    assert len(server.asked) == 1


def test_every_post_has_a_key_of_its_own_unless_one_is_given(play: Play) -> None:
    darkroom, server = play(*[Scripted(status=202, body=a_job())] * 3)

    darkroom.stagings.create("ast_1", **ROOM)
    darkroom.stagings.create("ast_1", **ROOM)
    darkroom.stagings.create("ast_1", **ROOM, idempotency_key="order-7")

    first, second, third = (each.headers["Idempotency-Key"] for each in server.asked)
    assert first != second
    assert third == "order-7"


def test_a_get_has_no_key(play: Play) -> None:
    darkroom, server = play(Scripted(body=WALLET))

    darkroom.credits.balance()

    assert "Idempotency-Key" not in server.asked[0].headers


def test_the_server_says_when(play: Play) -> None:
    darkroom, server = play(a_problem(503, "service_unavailable", headers={"Retry-After": "1"}), Scripted(body=WALLET))

    darkroom.credits.balance()

    waited = server.asked[1].at - server.asked[0].at
    assert 1 <= waited < 2


def test_a_wait_longer_than_the_patience_is_not_begun(play: Play) -> None:
    darkroom, server = play(a_problem(429, "rate_limited", headers={"Retry-After": "3600"}))

    with pytest.raises(RateLimited) as caught:
        darkroom.credits.balance()

    assert caught.value.retry_after == 3600
    assert len(server.asked) == 1


def test_patience_ends_and_the_last_refusal_is_told(play: Play) -> None:
    darkroom, server = play(*[a_problem(503, "service_unavailable")] * 1000, retry_seconds=0.2)

    with pytest.raises(ServiceUnavailable) as caught:
        darkroom.credits.balance()

    assert caught.value.attempts == len(server.asked) > 2


def test_no_patience_sends_everything_once(play: Play) -> None:
    darkroom, server = play(a_problem(409, "request_in_progress"), retry_seconds=0)

    with pytest.raises(RequestInProgress):
        darkroom.stagings.create("ast_1", **ROOM)

    assert len(server.asked) == 1


def test_a_server_that_is_silent_for_too_long_has_not_answered(play: Play) -> None:
    darkroom, server = play(Scripted(body=WALLET, silent_seconds=1), Scripted(body=WALLET), timeout_seconds=0.2)

    wallet = darkroom.credits.balance()

    assert wallet.available == 80
    assert len(server.asked) == 2


def test_nobody_there_is_told_without_the_key() -> None:
    darkroom = Darkroom("sk_live_secret", base_url="http://127.0.0.1:1", retry_seconds=0)

    with pytest.raises(NoAnswer, match=r"no answer from 127\.0\.0\.1:1 .*(REFUSED|refused)") as caught:
        darkroom.credits.balance()

    assert caught.value.code == "no_answer"
    assert caught.value.__suppress_context__


def test_a_deletion_whose_answer_was_lost_has_happened(play: Play) -> None:
    darkroom, server = play(None, a_problem(404, "not_found"))

    darkroom.uploads.delete("ast_1")

    assert [each.method for each in server.asked] == ["DELETE", "DELETE"]


def test_an_upload_is_sent_whole_again(play: Play) -> None:
    darkroom, server = play(None, Scripted(status=201, body=UPLOAD))
    told: list[tuple[int, int]] = []

    darkroom.uploads.create(b"\xff\xd8\xff" + bytes(200_000), on_progress=lambda *numbers: told.append(numbers))

    assert [len(each.body) for each in server.asked] == [200_003, 200_003]
    assert [sent for sent, _ in told].count(0) == 2
    assert told[-1] == (200_003, 200_003)


def test_pauses_grow_up_to_a_limit_and_are_never_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_SECONDS", 8.0)
    error = NoAnswer("x")

    pauses = {attempt: [retries.pause_seconds(error, attempt=attempt) for _ in range(50)] for attempt in (1, 3, 20)}

    assert all(0.25 <= each <= 0.5 for each in pauses[1])
    assert all(1 <= each <= 2 for each in pauses[3])
    assert all(4 <= each <= 8 for each in pauses[20])
    assert all(len(set(each)) > 1 for each in pauses.values())


def test_what_the_server_says_counts_and_is_never_undercut() -> None:
    pauses = [retries.pause_seconds(NoAnswer("x", retry_after=4), attempt=9) for _ in range(50)]

    assert all(4 <= each <= 5 for each in pauses)


def test_threads_may_share_a_client(play: Play) -> None:
    darkroom, server = play()
    server.otherwise = lambda asked: Scripted(body={**WALLET, "version": int(asked.query["n"])})

    with ThreadPoolExecutor(16) as pool:
        bodies = list(pool.map(lambda n: darkroom.request("GET", "/v1/credits", query={"n": n}), range(200)))

    assert [body["version"] for body in bodies] == list(range(200))
    assert len({each.headers["Authorization"] for each in server.asked}) == 1
