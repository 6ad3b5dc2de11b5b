"""Jobs are asked for on terms, waited for with patience, and their money is shown."""

import json
import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from darkroom_client import Conflict, DarkroomError, Job, JobNotFinished, NotFound, ServiceUnavailable
from tests.clients.answers import BALANCE, TIME, WALLET, a_job, a_page, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted, a_model_of_local

FAILED = {"reason": "provider_error", "message": "AI service unavailable.", "retryable": True}


def a_generation(number: int, **more: object) -> dict[str, object]:
    return {
        "id": f"gen_{number}",
        "number": number,
        "status": "succeeded",
        "failure": None,
        "images": [],
        "charged": 10,
        **more,
    }


def test_waiting_asks_as_often_as_it_is_told_to_and_tells_what_is_new(play: Play) -> None:
    running = Scripted(body=a_job("running"), headers={"Retry-After": "0.1"})
    darkroom, server = play(running, running, Scripted(body=a_job("succeeded")))
    told: list[tuple[str, int]] = []

    job = darkroom.jobs.wait("job_1", on_progress=lambda job: told.append((job.status, job.progress)))

    assert (job.status, job.ended) == ("succeeded", True)
    assert told == [("running", 0), ("succeeded", 100)]
    assert all(0.1 <= later.at - before.at < 1 for before, later in zip(server.asked, server.asked[1:], strict=False))


def test_one_may_ask_more_often_than_told(play: Play) -> None:
    darkroom, server = play(
        Scripted(body=a_job("running"), headers={"Retry-After": "60"}), Scripted(body=a_job("failed"))
    )

    job = darkroom.jobs.wait("job_1", poll_seconds=0.01)

    assert job.status == "failed"
    assert len(server.asked) == 2


def test_the_time_to_wait_ends_before_the_server_would_have_one_ask_again(play: Play) -> None:
    darkroom, server = play(*[Scripted(body=a_job("paused"), headers={"Retry-After": "60"})] * 9)
    began = time.monotonic()

    with pytest.raises(JobNotFinished, match=r"still paused after 0\.3 s") as caught:
        darkroom.jobs.wait("job_1", timeout_seconds=0.3)

    assert 0.3 <= time.monotonic() - began < 2
    assert caught.value.job is not None
    assert caught.value.job.status == "paused"
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, DarkroomError)
    assert len(server.asked) == 2


@pytest.mark.parametrize(("fresh", "sent"), [(True, {"fresh": True}), (False, {})])
def test_what_is_known_comes_back_as_a_finished_job_unless_it_is_to_be_made_anew(
    play: Play, *, fresh: bool, sent: dict[str, bool]
) -> None:
    known = {**a_job("succeeded"), "cache": {"operations": 1, "hits": 1, "fresh": False}}
    darkroom, server = play(Scripted(status=200, body=known))

    job = darkroom.jobs.create("photo_analysis", {"upload_ids": ["ast_1"]}, fresh=fresh)

    assert job.ended
    assert job.cache is not None
    assert (job.cache.hits, job.cache.operations) == (1, 1)
    asked = json.loads(server.asked[0].body)
    assert {name: value for name, value in asked.items() if name not in {"workflow", "inputs"}} == sent


def test_an_outage_is_waited_out(play: Play) -> None:
    darkroom, _ = play(
        *[a_problem(503, "service_unavailable")] * 5, Scripted(body=a_job("succeeded")), retry_seconds=0.0
    )

    job = darkroom.jobs.wait("job_1", timeout_seconds=30)

    assert job.ended


def test_an_outage_longer_than_the_time_to_wait_is_told(play: Play) -> None:
    darkroom, _ = play(*[a_problem(503, "service_unavailable")] * 1000)

    with pytest.raises(ServiceUnavailable):
        darkroom.jobs.wait("job_1", timeout_seconds=0.1)


def test_the_server_can_be_let_wait(play: Play) -> None:
    darkroom, server = play(Scripted(body=a_job("succeeded"), silent_seconds=0.5), timeout_seconds=0.2)

    job = darkroom.stagings.create("ast_1", style="modern", room_type="bedroom", wait_seconds=90)

    assert job.ended
    assert server.asked[0].headers["Prefer"] == "wait=60"


def test_a_job_tells_of_its_images_and_failures() -> None:
    job = Job.from_json(a_job("failed", generations=[a_generation(1), a_generation(2, failure=FAILED)]))

    assert [failure.reason for failure in job.failures] == ["provider_error"]
    assert job.images == []


def test_fields_nobody_knew_of_are_kept() -> None:
    job = Job.from_json(a_job("a_new_status", mood="cheerful", finished_at="2026-01-01T10:00:00.1234567+02:00"))

    assert (job.status, job.extra) == ("a_new_status", {"mood": "cheerful"})
    assert job.finished_at == datetime(2026, 1, 1, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert job.created_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_lists_go_on_over_their_pages_and_only_as_far_as_needed(play: Play) -> None:
    first, second = a_page(a_job(id="job_3"), a_job(id="job_2"), after="c/1"), a_page(a_job(id="job_1"))
    darkroom, server = play(first, second, first)

    everything = [job.id for job in darkroom.jobs.list(status="queued", page_size=2)]
    newest = next(iter(darkroom.jobs.list()))

    assert everything == ["job_3", "job_2", "job_1"]
    assert newest.id == "job_3"
    assert [each.query for each in server.asked] == [
        {"status": "queued", "limit": "2"},
        {"status": "queued", "limit": "2", "after": "c/1"},
        {"limit": "50"},
    ]


def test_a_receipt_has_all_its_lines(play: Play) -> None:
    sums = {"held": 10, "charged": 10, "refunded": 0, "returned": 0, "open": 0}
    line = {
        **sums,
        "generation_id": "gen_1",
        "sku": "staging.variant",
        "unit": "credits",
        "price_version": 1,
        "status": "captured",
        "reason": None,
        "return_reason": None,
        "held_at": TIME,
        "settled_at": TIME,
        "grants": [],
    }
    receipt = {
        "job_id": "job_1",
        "reservation_id": "rsv_1",
        "workflow": "staging",
        "quote_id": None,
        "priced_at": TIME,
        "held_at": TIME,
        "closed": True,
        "totals": {"credits": sums},
        "discounts": [],
        "refunds": [],
        "returns": [],
    }
    pages = [
        {"data": [line], "has_more": True, "next_cursor": "1"},
        {"data": [{**line, "generation_id": "gen_2"}], "has_more": False, "next_cursor": None},
    ]
    darkroom, server = play(*[Scripted(body={**receipt, "lines": page}) for page in pages])

    got = darkroom.jobs.receipt("job_1")

    assert [line.generation_id for line in got.lines] == ["gen_1", "gen_2"]
    assert got.totals["credits"].charged == 10
    assert [each.query.get("after") for each in server.asked] == [None, "1"]


def test_a_dry_run_says_what_it_would_cost(play: Play) -> None:
    line = {"sku": "staging.variant", "unit": "credits", "count": 2, "unit_amount": 10, "amount": 20}
    estimate = {
        "workflow": "staging",
        "amount": 20,
        "totals": {"credits": 20},
        "lines": [line],
        "images": 2,
        "estimated_seconds": 60,
        "dry_run": True,
        "balance": BALANCE,
        "shortfall": None,
    }
    darkroom, server = play(Scripted(body=estimate))

    got = darkroom.jobs.estimate("staging", {})

    assert (got.amount, got.lines[0].unit_amount, got.balance and got.balance.available) == (20, 10, 80)
    assert b'"dry_run": true' in server.asked[0].body


def test_a_job_is_cancelled_and_shown_as_it_is_then(play: Play) -> None:
    darkroom, server = play(a_problem(503, "service_unavailable"), Scripted(body=a_job("cancelling", finished_at=None)))

    job = darkroom.jobs.cancel("job_1")

    assert (job.status, job.ended) == ("cancelling", False)
    assert [(each.method, each.path, each.body) for each in server.asked] == [
        ("POST", "/v1/jobs/job_1/cancel", b"")
    ] * 2
    assert "Idempotency-Key" not in server.asked[0].headers


def test_a_job_is_synced_without_waiting_for_what_comes_of_it(play: Play) -> None:
    darkroom, server = play(Scripted(body=a_job("running")))

    job = darkroom.jobs.sync("job_1")

    assert job.status == "running"
    assert server.asked[0].path == "/v1/jobs/job_1/sync"


def test_failures_are_made_again_by_a_new_job_once_however_often_it_is_tried(play: Play) -> None:
    darkroom, server = play(
        a_problem(503, "service_unavailable"), Scripted(status=202, body=a_job(id="job_2", retry_of="job_1"))
    )

    job = darkroom.jobs.retry("job_1", generation_ids=("gen_2",), settings={"style": "rustic"}, wait_seconds=5)

    first, second = server.asked
    assert (job.id, job.retry_of) == ("job_2", "job_1")
    assert json.loads(second.body) == {"generation_ids": ["gen_2"], "settings": {"style": "rustic"}}
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert second.headers["Prefer"] == "wait=5"


def test_a_retry_of_everything_says_nothing_more(play: Play) -> None:
    darkroom, server = play(Scripted(status=202, body=a_job()))

    darkroom.jobs.retry("job_1")

    assert server.asked[0].body == b"{}"


def test_what_cannot_be_made_again_is_told(play: Play) -> None:
    darkroom, _ = play(a_problem(409, "conflict"))

    with pytest.raises(Conflict):
        darkroom.jobs.retry("job_1")


def test_attempts_go_on_over_their_pages_and_can_be_those_at_work(play: Play) -> None:
    attempt = {
        "operation_id": "op_1",
        "generation_id": "gen_1",
        "operation": "image.stage",
        "attempt": 1,
        "status": "submitted",
        "phase": "running",
        "queue_position": 3,
        "provider": "fal",
        "model_requested": "fal-ai/flux",
        "model_used": None,
        "seed": 7,
        "reason": None,
        "sent_at": TIME,
        "ended_at": None,
        "duration_ms": None,
    }
    darkroom, server = play(a_page(attempt, after="op_1/000001"), a_page({**attempt, "attempt": 2}))

    found = list(darkroom.jobs.attempts("job_1", live=True))

    assert [(each.attempt, each.queue_position) for each in found] == [(1, 3), (2, 3)]
    assert [each.query for each in server.asked] == [
        {"live": "true", "limit": "50"},
        {"live": "true", "limit": "50", "after": "op_1/000001"},
    ]


def test_the_timeline_is_a_list_of_what_happened(play: Play) -> None:
    step = {"at": TIME, "what": "job_accepted", "generation_id": None, "detail": None}
    darkroom, _ = play(Scripted(body={"data": [step]}))

    (told,) = darkroom.jobs.timeline("job_1")

    assert (told.what, told.at) == ("job_accepted", datetime(2026, 1, 1, tzinfo=UTC))


def test_models_say_how_they_do(play: Play) -> None:
    darkroom, _ = play(Scripted(body={"data": [a_model_of_local()]}))

    (model,) = darkroom.models.list()

    assert (model.provider, model.health.status) == ("local", "ok")


def test_times_are_written_with_their_zone(play: Play) -> None:
    darkroom, server = play(a_page())

    list(darkroom.credits.entries(since=date(2026, 1, 1), until=datetime(2026, 1, 2, tzinfo=UTC), job_id="job_1"))

    assert server.asked[0].query == {
        "since": "2026-01-01",
        "until": "2026-01-02T00:00:00+00:00",
        "job": "job_1",
        "limit": "50",
    }


def test_a_time_without_a_zone_is_no_moment(play: Play) -> None:
    darkroom, server = play()

    with pytest.raises(ValueError, match="time zone"):
        list(darkroom.credits.entries(since=datetime(2026, 1, 1)))  # noqa: DTZ001  what is wrong here

    assert server.asked == []


def test_a_route_without_a_method_can_be_called(play: Play) -> None:
    darkroom, server = play(Scripted(status=201, body={"id": "ses_1"}))

    made = darkroom.request("POST", "/v1/staging-sessions", body={"upload_id": "ast_1"}, idempotency_key="mine")

    assert made == {"id": "ses_1"}
    assert server.asked[0].headers["Idempotency-Key"] == "mine"


def test_the_balance_comes_with_plan_and_allowance(play: Play) -> None:
    darkroom, _ = play(Scripted(body=WALLET))

    wallet = darkroom.credits.balance()

    assert (wallet.available, wallet.held, wallet.plan, wallet.quota.limit) == (80, 20, "pro", None)
    assert wallet.counters["credits_spent"] == 20


@pytest.mark.parametrize("odd", ["", ".."])
def test_what_is_no_id_is_not_asked_for(play: Play, odd: str) -> None:
    darkroom, server = play()

    with pytest.raises(ValueError, match="no id"):
        darkroom.jobs.get(odd)

    assert server.asked == []


def test_an_id_stays_a_part_of_the_path(play: Play) -> None:
    darkroom, server = play(a_problem(404, "not_found"))

    with pytest.raises(NotFound):
        darkroom.jobs.get("../credits?x=1")

    assert server.asked[0].path == "/v1/jobs/..%2Fcredits%3Fx%3D1"
