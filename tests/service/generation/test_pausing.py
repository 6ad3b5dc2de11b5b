import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import endings, handlers, sweeper
from services.generation.engine import Engine
from services.generation.models import Job
from shared.database import Database
from shared.events import (
    CreditsAdjusted,
    CreditsGranted,
    Event,
    GenerationFailed,
    JobFinished,
    JobPaused,
    JobResumed,
    PlanChanged,
    RefundIssued,
    ReservationOverdue,
    correlated,
)
from shared.ids import new_id
from shared.problems import InsufficientCredits, JobClosed, Problem, QuoteMismatch, QuoteUsed, Unavailable
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import (
    adopt,
    ask_again,
    begun,
    claim,
    fail_one,
    job_of,
    names,
    published,
    reserved,
    seconds_until_asked,
    submitted,
    told,
)


@pytest.fixture
def credits_service() -> HoldingCredits:
    """Credits that hold one line and no more."""
    credits_service = HoldingCredits()
    credits_service.means = 1
    return credits_service


def waiting(db: Database, engine: Engine, credits_service: HoldingCredits, **more: Any) -> str:
    """Submit three variants that may wait."""
    return submitted(db, engine, variants=3, credits_service=credits_service, on_insufficient="pause", **more)


def paused(db: Database, engine: Engine, credits_service: HoldingCredits) -> str:
    """Submit three variants of which one is done and two wait."""
    job_id = waiting(db, engine, credits_service)
    finish_all(db, engine)
    assert row(db, job_id).status == "paused"
    return job_id


def finish_all(db: Database, engine: Engine) -> None:
    for item in begun(db, claim(db)):
        assert adopt(db, engine, item)


def row(db: Database, job_id: str) -> Job:
    with db.transaction() as session:
        return session.get_one(Job, job_id)


def age(db: Database, job_id: str, *columns: str, **interval: float) -> None:
    """Let so much time pass for a job."""
    with db.transaction() as session:
        for column in columns:
            values = {getattr(Job, column): getattr(Job, column) - timedelta(**interval)}
            session.execute(sa.update(Job).where(Job.id == job_id).values(values))


def of_kind(db: Database, kind: type[Event]) -> list[Any]:
    return [event for event in published(db) if isinstance(event, kind)]


def test_what_is_held_runs_and_the_rest_waits(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = waiting(generation_db, engine, credits_service)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["waiting_reason"], job["reserved"]) == ("queued", "quota_exceeded", 10)
    assert [item["status"] for item in job["generations"]] == ["queued"] * 3
    assert [warning["code"] for warning in job["warnings"]] == ["generations_wait"]
    assert "2 of 3" in job["warnings"][0]["detail"]
    assert names(generation_db) == ["JobAccepted"]
    assert len(claim(generation_db)) == 1


def test_a_job_pauses_when_only_what_waits_is_left(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["waiting_reason"], job["finished_at"]) == ("paused", "quota_exceeded", None)
    assert (job["charged"], job["eta_seconds"], job["stalled"]) == (10, None, False)
    (event,) = of_kind(generation_db, JobPaused)
    assert (event.reason, event.waiting) == ("quota_exceeded", 2)


def test_a_job_whose_only_paid_generation_fails_pauses_too(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = waiting(generation_db, engine, credits_service)
    (item,) = begun(generation_db, claim(generation_db))

    fail_one(generation_db, item)

    assert row(generation_db, job_id).status == "paused"


def test_a_job_of_which_nothing_can_be_held_is_accepted_and_paused_at_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.refusal = InsufficientCredits("short", required=20, available=5)

    answer = handlers.submit(generation_db, credits_service, engine, a_submission(on_insufficient="pause"))

    assert (answer["job"]["status"], answer["job"]["waiting_reason"]) == ("paused", "insufficient_credits")
    assert answer["balance"] is None
    assert names(generation_db) == ["JobAccepted", "JobPaused"]
    assert claim(generation_db) == []


def test_a_paused_job_goes_on_by_itself_once_credits_hold_the_rest(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    credits_service.means = None

    ask_again(generation_db, credits_service)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["reserved"], job["warnings"]) == ("queued", 20, [])
    assert (row(generation_db, job_id).waiting_reason, row(generation_db, job_id).reserve_after) == (None, None)
    finish_all(generation_db, engine)
    assert (job_of(generation_db, job_id)["status"], job_of(generation_db, job_id)["charged"]) == ("succeeded", 30)
    order = ["JobPaused", "JobResumed", "GenerationStarted", "GenerationStarted"]
    assert [name for name in names(generation_db)[3:] if name in order] == order


def test_what_waits_begins_while_the_rest_still_runs_without_a_pause(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = waiting(generation_db, engine, credits_service)
    begun(generation_db, claim(generation_db))
    credits_service.means = 2

    ask_again(generation_db, credits_service)

    assert len(claim(generation_db)) == 1
    assert (row(generation_db, job_id).status, row(generation_db, job_id).waiting_reason) == (
        "running",
        "quota_exceeded",
    )
    assert {"JobPaused", "JobResumed"}.isdisjoint(names(generation_db))


def test_only_what_waits_is_asked_for_again(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    waiting(generation_db, engine, credits_service)

    ask_again(generation_db, credits_service)

    first, again = ([line["line_id"] for line in call["lines"]] for call in credits_service.calls)
    assert again == first[1:]


def test_the_clock_of_a_paused_job_stands(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    deadline_at = row(generation_db, job_id).deadline_at
    age(generation_db, job_id, "deadline_at", "paused_at", hours=2)
    sweeper.end_overdue_jobs(generation_db)
    assert row(generation_db, job_id).status == "paused"
    credits_service.means = None

    ask_again(generation_db, credits_service)

    resumed = row(generation_db, job_id)
    assert abs(resumed.deadline_at - deadline_at) < timedelta(minutes=1)
    assert abs(datetime.fromisoformat(credits_service.calls[-1]["deadline_at"]) - resumed.deadline_at) < timedelta(
        seconds=10
    )
    (event,) = of_kind(generation_db, JobResumed)
    assert datetime.fromisoformat(event.deadline_at) == resumed.deadline_at


def test_a_deadline_ends_what_runs_and_not_what_waits(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = waiting(generation_db, engine, credits_service)
    begun(generation_db, claim(generation_db))
    age(generation_db, job_id, "deadline_at", hours=1)

    sweeper.end_overdue_jobs(generation_db)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["refunded"]) == ("paused", 10)
    assert [item["failure"] and item["failure"]["reason"] for item in job["generations"]] == [
        "deadline_exceeded",
        None,
        None,
    ]


def test_what_begins_after_the_deadline_was_used_up_has_time_of_its_own(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = waiting(generation_db, engine, credits_service)
    age(generation_db, job_id, "deadline_at", hours=1)
    sweeper.end_overdue_jobs(generation_db)
    credits_service.means = None

    ask_again(generation_db, credits_service)
    sweeper.end_overdue_jobs(generation_db)
    finish_all(generation_db, engine)

    assert job_of(generation_db, job_id)["status"] == "partially_succeeded"
    assert job_of(generation_db, job_id)["charged"] == 20


def test_a_pause_ends_after_thirty_days_with_what_was_done(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    age(generation_db, job_id, "paused_at", days=29.9)
    sweeper.end_long_pauses(generation_db)
    assert row(generation_db, job_id).status == "paused"

    age(generation_db, job_id, "paused_at", days=0.2)
    sweeper.end_long_pauses(generation_db)

    job = job_of(generation_db, job_id)
    assert job["status"] == "partially_succeeded"
    assert [item["failure"] and item["failure"]["reason"] for item in job["generations"]][1:] == ["quota_exceeded"] * 2
    ended = row(generation_db, job_id)
    assert (ended.paused_at, ended.reserve_after, ended.waiting_reason) == (None, None, None)
    assert names(generation_db)[-1] == "JobFinished"


def test_a_pause_in_which_nothing_was_done_ends_as_a_failure(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = 0
    job_id = waiting(generation_db, engine, credits_service)
    age(generation_db, job_id, "paused_at", days=31)

    sweeper.end_long_pauses(generation_db)

    assert job_of(generation_db, job_id)["status"] == "failed"


def test_a_paused_job_can_be_ended_and_what_is_held_after_that_comes_back(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]
    with generation_db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        generation_db.publish(
            session, endings.end_job(session, job, code="cancelled", now=endings.database_now(session))
        )

    (answer,) = told(generation_db, reserved(job_id, lines[1:]))

    assert isinstance(answer, JobFinished)
    assert (answer.status, [line.outcome for line in answer.lines]) == (
        "partially_succeeded",
        ["captured", "refunded", "refunded"],
    )
    assert claim(generation_db) == []


def test_the_answer_to_a_job_that_was_cancelled_during_the_call_begins_nothing(
    generation_db: Database, engine: Engine
) -> None:
    class Cancelling(HoldingCredits):
        def reserve(self, **request: Any) -> dict[str, Any]:
            with generation_db.transaction() as session:
                job = endings.lock_jobs(session, [request["job_id"]])[request["job_id"]]
                endings.end_job(session, job, code="cancelled", now=endings.database_now(session))
            return super().reserve(**request)

    job_id = waiting(generation_db, engine, Cancelling())

    assert row(generation_db, job_id).status == "cancelled"
    assert claim(generation_db) == []


def causes(org_id: str) -> dict[str, Event]:
    wallet: dict[str, Any] = {"org_id": org_id, "available": 1, "version": 2}
    line = {"reservation_id": "rsv", "job_id": "job", "line_id": "gen", "reason": "provider_error"}
    made: dict[str, Event] = {
        "plan": PlanChanged(org_id=org_id, plan="pro", previous_plan="free", monthly_generations=None, changed_by="usr")
    }
    for unit in ("credits", "plan_generations"):
        made |= {
            f"grant of {unit}": CreditsGranted(grant_id="grt", amount=5, unit=unit, kind="purchased", **wallet),
            f"{unit} added": CreditsAdjusted(adjustment_id="adj", amount=5, unit=unit, reason="r", **wallet),
            f"{unit} taken": CreditsAdjusted(adjustment_id="adj", amount=-5, unit=unit, reason="r", **wallet),
            f"refund of {unit}": RefundIssued(amount=5, unit=unit, **line, **wallet),
        }
    return made


def happens(db: Database, *events: Event) -> None:
    with db.transaction() as session:
        handlers.ask_for_waiting_jobs(session, events)  # type: ignore[arg-type]


WAKES = {
    "insufficient_credits": {"grant of credits", "credits added", "refund of credits"},
    "quota_exceeded": {
        "plan",
        "grant of plan_generations",
        "plan_generations added",
        "refund of plan_generations",
    },
    "daily_cap_reached": set(),
    "key_cap_reached": {"refund of credits"},
}


@pytest.mark.parametrize("cause", causes("org"))
@pytest.mark.parametrize("reason", WAKES)
def test_what_may_pay_for_more_lets_the_jobs_that_wait_for_it_ask_at_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, reason: str, cause: str
) -> None:
    mine = new_id("org")
    credits_service.shortfall |= {"code": reason}
    job_id = waiting(generation_db, engine, credits_service, org_id=mine)
    another = waiting(generation_db, engine, HoldingCreditsOfNothing(), org_id=new_id("org"))

    happens(generation_db, causes(mine)[cause])

    assert (seconds_until_asked(generation_db, job_id) <= 0) == (cause in WAKES[reason])
    assert seconds_until_asked(generation_db, another) > 300


def test_what_happens_to_one_organization_does_not_wake_another_that_waits_for_something_else(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    mine, other = new_id("org"), new_id("org")
    job_id = waiting(generation_db, engine, credits_service, org_id=mine)
    another = waiting(generation_db, engine, HoldingCreditsOfNothing(), org_id=other)

    happens(generation_db, causes(mine)["plan"], causes(other)["grant of credits"])

    assert seconds_until_asked(generation_db, job_id) <= 0
    assert seconds_until_asked(generation_db, another) > 300


class HoldingCreditsOfNothing(HoldingCredits):
    """Credits that hold nothing at all."""

    def __init__(self) -> None:
        super().__init__()
        self.means = 0


def test_a_change_of_plan_told_twice_has_one_effect(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    org_id = new_id("org")
    job_id = waiting(generation_db, engine, credits_service, org_id=org_id)
    finish_all(generation_db, engine)
    credits_service.means = None

    for _ in range(2):
        happens(generation_db, *[causes(org_id)["plan"]] * 2)
        sweeper.reserve_again(generation_db, credits_service)

    assert len(credits_service.calls) == 2
    assert len(of_kind(generation_db, JobResumed)) == 1
    assert job_of(generation_db, job_id)["reserved"] == 20


def test_a_change_of_plan_during_the_call_is_not_forgotten(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")

    class ChangedMeanwhile(HoldingCredits):
        def reserve(self, **request: Any) -> dict[str, Any]:
            try:
                return super().reserve(**request)
            finally:
                happens(generation_db, causes(org_id)["plan"])

    credits_service = ChangedMeanwhile()
    credits_service.means = 1

    job_id = waiting(generation_db, engine, credits_service, org_id=org_id)
    at_first = seconds_until_asked(generation_db, job_id)
    ask_again(generation_db, credits_service)
    afterwards = seconds_until_asked(generation_db, job_id)

    assert at_first <= 0
    assert afterwards <= 0


@pytest.mark.parametrize(("resets_in_seconds", "asked_in_seconds"), [(120, 121), (3600, 600), (-5, 600)])
def test_credits_are_asked_again_every_ten_minutes_and_when_the_allowance_begins_anew(
    generation_db: Database,
    engine: Engine,
    credits_service: HoldingCredits,
    resets_in_seconds: int,
    asked_in_seconds: int,
) -> None:
    resets_at = datetime.now(UTC) + timedelta(seconds=resets_in_seconds)
    credits_service.shortfall |= {"resets_at": resets_at.isoformat().replace("+00:00", "Z")}

    job_id = waiting(generation_db, engine, credits_service)

    assert seconds_until_asked(generation_db, job_id) == pytest.approx(asked_in_seconds, abs=5)


def test_the_answer_of_a_hold_that_comes_after_the_event_finds_nothing_left_to_do(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = None
    asked = a_submission(on_insufficient="pause")
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(generation_db, credits_service, engine, asked)
    credits_service.refusal = None
    lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]

    told(generation_db, reserved(asked.job_id, lines))
    ask_again(generation_db, credits_service)

    assert len(credits_service.calls) == 1
    assert row(generation_db, asked.job_id).status == "queued"


def test_the_event_alone_lets_a_paused_job_go_on(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]

    for _ in range(2):
        told(generation_db, reserved(job_id, lines[1:]))

    assert len(of_kind(generation_db, JobResumed)) == 1
    finish_all(generation_db, engine)
    assert job_of(generation_db, job_id)["status"] == "succeeded"


def test_a_stale_shortfall_does_not_make_a_paid_job_wait(generation_db: Database, engine: Engine) -> None:
    class Overtaken(HoldingCredits):
        def reserve(self, **request: Any) -> dict[str, Any]:
            lines = [line["line_id"] for line in request["lines"]]
            told(generation_db, reserved(request["job_id"], lines))
            return super().reserve(**request)

    credits_service = Overtaken()
    credits_service.means = 1

    job_id = waiting(generation_db, engine, credits_service)

    job = row(generation_db, job_id)
    assert (job.status, job.waiting_reason, job.reserve_after) == ("queued", None, None)
    assert len(claim(generation_db)) == 3


def test_two_sweepers_at_once_ask_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_ids = [paused(generation_db, engine, HoldingCreditsOfOne()) for _ in range(4)]
    credits_service.means = None
    with generation_db.transaction() as session:
        session.execute(sa.update(Job).values(reserve_after=sa.func.clock_timestamp()))

    threads = [threading.Thread(target=sweeper.reserve_again, args=(generation_db, credits_service)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(call["job_id"] for call in credits_service.calls) == sorted(job_ids)
    assert len(of_kind(generation_db, JobResumed)) == 4


class HoldingCreditsOfOne(HoldingCredits):
    """Credits that hold one line and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.means = 1


def test_a_question_without_answer_is_asked_again_soon(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    credits_service.refusal = Unavailable()

    ask_again(generation_db, credits_service)

    assert 0 < seconds_until_asked(generation_db, job_id) <= 10
    assert row(generation_db, job_id).status == "paused"


@pytest.mark.parametrize(
    ("refusal", "reason", "message"),
    [
        (QuoteUsed(), "invalid_input", "The quote was used for another job while this one waited."),
        (QuoteMismatch(), "invalid_input", "The request did not fit what this product needs."),
        (JobClosed(), "internal_error", "Something went wrong on our side. Please retry."),
    ],
    ids=["quote used", "quote of another", "closed"],
)
def test_a_job_that_credits_will_never_pay_for_waits_no_longer(
    generation_db: Database,
    engine: Engine,
    credits_service: HoldingCredits,
    refusal: Problem,
    reason: str,
    message: str,
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    credits_service.refusal = refusal

    ask_again(generation_db, credits_service)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["charged"]) == ("partially_succeeded", 10)
    failures = [(item["failure"]["reason"], item["failure"]["message"]) for item in job["generations"][1:]]
    assert failures == [(reason, message)] * 2
    assert [(event.reason, event.message) for event in of_kind(generation_db, GenerationFailed)] == failures


def test_a_job_that_still_runs_and_will_never_be_paid_for_further_is_not_asked_about_again(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = waiting(generation_db, engine, credits_service)
    begun(generation_db, claim(generation_db))
    credits_service.refusal = JobClosed()

    ask_again(generation_db, credits_service)

    job = row(generation_db, job_id)
    assert (job.status, job.open_generations, job.waiting_reason, job.reserve_after) == ("running", 1, None, None)


def test_a_job_in_which_nothing_waits_any_longer_is_not_asked_about_again(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = None
    job_id = waiting(generation_db, engine, credits_service)
    with generation_db.transaction() as session:
        left_over = {"reserve_after": sa.func.clock_timestamp(), "waiting_reason": "quota_exceeded"}
        session.execute(sa.update(Job).where(Job.id == job_id).values(left_over))

    assert sweeper.reserve_again(generation_db, credits_service) == 1

    assert len(credits_service.calls) == 1
    assert (row(generation_db, job_id).waiting_reason, row(generation_db, job_id).reserve_after) == (None, None)


def test_an_overdue_line_of_a_paused_job_is_not_answered(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = paused(generation_db, engine, credits_service)
    lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]
    overdue = ReservationOverdue(
        meta=correlated(None), reservation_id="rsv", job_id=job_id, org_id="org", line_ids=lines
    )

    with generation_db.transaction() as session:
        assert handlers.answer_overdue(session, [overdue]) == []


def test_a_paused_job_stands_before_nobody(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    org_id = new_id("org")
    waiting(generation_db, engine, credits_service, org_id=org_id)
    finish_all(generation_db, engine)

    later = submitted(generation_db, engine, org_id=org_id)

    assert job_of(generation_db, later)["queue_position"] == 1
