"""Holding credits for a job: what is asked, and what follows from the answer, from the event, and from a refusal.

The same hold may be told twice, in any order, and late; each part of it takes effect once, under the job's lock.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import endings, pauses, starts
from services.generation.jobs import GENERATION_ENDS, JOB_ENDS, next_question
from services.generation.models import Generation, Job, Operation
from services.generation.turns import in_turns
from shared.crash import crash_point
from shared.database import Database
from shared.events import Event
from shared.gathering import taken_apart
from shared.problems import (
    HoldRefused,
    JobClosed,
    NotFound,
    Problem,
    QuoteExpired,
    QuoteMismatch,
    QuoteUsed,
    Unavailable,
)
from shared.rpc_batches import Call, outcomes_of

log = structlog.get_logger(__name__)

OPERATIONS_CHANNEL = "operations"
RESERVE_AGAIN = timedelta(seconds=10)
GIVE_UP_RESERVING = timedelta(seconds=60)
_ON_OUR_SIDE = 500
_ASKED_WRONGLY = (NotFound, QuoteExpired, QuoteMismatch, QuoteUsed)
_QUOTE_IS_GONE = "The quote was used for another job while this one waited."
# Of a large job that waits, so many lines are asked for at a time: it may be asked for often, and mostly in vain.
_LINES_OF_A_STEP = 200
_ASKED_ABOUT = (
    "id",
    "org_id",
    "user_id",
    "workflow",
    "session_id",
    "created_at",
    "on_insufficient",
    "quote_id",
    "fingerprint",
    "reserve_after",
    "correlation_id",
    "cap_id",
    "daily_cap",
)

# Jobs whose first hold is under way are marked too: their answer may be older than what has come since.
_ASK_NOW = sa.text("""
UPDATE jobs SET reserve_after = clock_timestamp() WHERE id IN (
    SELECT id FROM jobs
    WHERE org_id = ANY (:org_ids) AND on_insufficient = 'pause' AND reserve_after IS NOT NULL AND finished_at IS NULL
      AND (waiting_reason IS NULL OR (org_id, waiting_reason) IN (
          SELECT * FROM unnest(CAST(:org_ids AS text[]), CAST(:reasons AS text[]))
      ))
    ORDER BY id FOR UPDATE
)
""")


class Credits(Protocol):
    """The calls the engine makes to another service."""

    def reserve(self, **request: Any) -> dict[str, Any]:
        """Hold the price of the request's ``lines``."""
        ...

    def reserve_many(self, *, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer many such requests, packed by `Call.packed`, each with ``{result}`` or ``{problem}``."""
        ...

    def prices(self, *, skus: Mapping[str, int]) -> dict[str, Any]:
        """Return the ``lines`` that so many of each SKU would be priced as."""
        ...

    def take_test_quote(self, **request: Any) -> dict[str, Any]:
        """Check a quote for a job of a test key, and use it up."""
        ...


@dataclass(frozen=True, kw_only=True)
class Question:
    """One call of ``credits.reserve`` for a job; ``asked_at`` is the job's ``reserve_after`` as it was then."""

    job_id: str
    request: Mapping[str, Any]
    asked_at: datetime | None
    correlation_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """Why lines are missing in an answer: ``code`` is of the failure taxonomy."""

    code: str
    resets_at: datetime | None = None


def question(session: Session, job: Job) -> Question | None:
    """Return what to ask credits for: one line per generation that has a price and nothing held; None if none has.

    A job that credits were short for asks for its first 200 only; while these are held it is due again at once.
    """
    most = None if job.waiting_reason is None else _LINES_OF_A_STEP
    ended = job.status in JOB_ENDS or job.status == "cancelling"
    waiting = [] if ended else pauses.waiting_lines(session, job, most=most)
    if not waiting:
        job.reserve_after = job.waiting_reason = None
        return None
    lines = [{"line_id": line_id, "sku": sku, "cost_microusd": cost} for line_id, sku, cost in in_turns(waiting)]
    ends = job.deadline_at
    if job.status != "awaiting_credit":
        ends = pauses.deadline_now(job, now=endings.database_now(session))
    return _question({name: getattr(job, name) for name in _ASKED_ABOUT}, lines, ends=ends)


def first_question(row: Mapping[str, Any], generations: Sequence[Mapping[str, Any]]) -> Question | None:
    """Return what to ask credits for a job just written: ``row`` and its ``generations``; None where it is free."""
    if row["status"] != "awaiting_credit":
        return None
    lines = [
        {"line_id": one["id"], "sku": one["sku"], "cost_microusd": one["expected_cost_microusd"]}
        for one in in_turns(generations)
        if one["sku"]
    ]
    return _question(row, lines, ends=row["deadline_at"])


def hold(db: Database, credits_service: Credits, asked: Question) -> dict[str, Any] | None:
    """Ask credits to hold a job's price, and act on the answer. No transaction is open during the call.

    Returns:
        the wallet ``{available, held, version}``, or None when nothing was held: the job waits, or has ended meanwhile.

    Raises:
        Problem: what credits refused, where the job was rejected for it.
        Unavailable: credits did not answer; the job stays as it is.
    """
    (outcome,) = hold_all(db, credits_service, [asked])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def hold_all(
    db: Database, credits_service: Credits, several: Sequence[Question]
) -> list[dict[str, Any] | Exception | None]:
    """Ask credits about several jobs with one call, and record what is held with one transaction.

    Returns:
        For each, in order, what `hold` returns, or the exception it raises.
    """
    if not several:
        return []
    answers = _ask(credits_service, several)
    held = [place for place, answer in enumerate(answers) if not isinstance(answer, Exception)]
    if held:
        crash_point("submit.after_reserve")
    done = taken_apart(lambda places: _record(db, [(several[place], answers[place]) for place in places]), held)
    recorded = dict(zip(held, done, strict=True))
    return [
        recorded[place] if place in recorded else _refused(db, asked, answers[place])
        for place, asked in enumerate(several)
    ]


def record_answer(
    session: Session, job: Job, asked: Question, *, amounts: Mapping[str, int], shortfall: Shortfall | None
) -> list[Event]:
    """Begin what is held; what is not fails or waits, as the job was asked for.

    Args:
        session: of the system role; the job's row is locked.
        job: the job, in whatever state it is by now.
        asked: what this answers.
        amounts: what is held, by line.
        shortfall: why lines are missing; None where all are held, and those not named are free of charge.
    """
    if job.status in JOB_ENDS:
        return []
    now = endings.database_now(session)
    if shortfall is None:
        amounts = dict.fromkeys((line["line_id"] for line in asked.request["lines"]), 0) | dict(amounts)
    events = _begin(session, job, amounts, now=now)
    if not pauses.anything_waits(session, job):
        job.reserve_after = job.waiting_reason = None
    elif shortfall is None:
        job.reserve_after = now
    elif job.on_insufficient == "pause":
        job.waiting_reason = shortfall.code
        _ask_later(job, asked, at=next_question(now, resets_at=shortfall.resets_at))
        events += pauses.pause_if_nothing_runs(session, job, now=now)
    else:
        job.reserve_after = None
        events += endings.not_begun(session, job, pauses.waiting_ids(session, job), code=shortfall.code, now=now)
    return events


def record_event(session: Session, job: Job, amounts: Mapping[str, int]) -> list[Event]:
    """Begin what an event says is held; what failed meanwhile is told again, so that credits give it back.

    An event does not say why other lines are missing: credits are asked for them at once.
    """
    told_again = endings.held_after_all(session, job, amounts)
    if job.status in JOB_ENDS:
        return [endings.finished(session, job, held=amounts)]
    now = endings.database_now(session)
    before = job.status
    events = _begin(session, job, amounts, now=now)
    if not pauses.anything_waits(session, job):
        job.reserve_after = job.waiting_reason = None
    elif before == "awaiting_credit":
        job.reserve_after = now
    return [*told_again, *events]


def still_held(session: Session, job: Job, line_ids: Collection[str]) -> list[Event]:
    """Answer that lines are open longer than they may: say how they ended; nothing while a job runs or is paused."""
    if job.status in JOB_ENDS:
        return [endings.finished(session, job, held=line_ids)]
    return endings.held_after_all(session, job, dict.fromkeys(line_ids, 0))


def ask_now(session: Session, causes: Collection[tuple[str, str]]) -> None:
    """Let credits be asked again at once for the jobs that wait for what there may be more of now.

    Args:
        session: of the system role.
        causes: pairs of an organization's id and the reason that its jobs may wait for no longer.
    """
    org_ids, reasons = zip(*sorted(causes), strict=True)
    session.execute(_ASK_NOW, {"org_ids": list(org_ids), "reasons": list(reasons)})


def _begin(session: Session, job: Job, amounts: Mapping[str, int], *, now: datetime) -> list[Event]:
    """Note what is held for generations that waited, make their operations due, and let the job go on."""
    pauses.note_held(session, job, amounts)
    if not _make_due(session, job):
        return []
    if job.status == "awaiting_credit":
        job.status = "queued"
        return []
    return pauses.go_on(job, now=now)


def _make_due(session: Session, job: Job) -> int:
    """Make the operations due of all that is paid for or free of charge; return how many there were."""
    waits = sa.and_(Generation.sku.is_not(None), Generation.amount.is_(None))
    ready = sa.select(Generation.id).where(
        Generation.job_id == job.id, Generation.status.not_in(GENERATION_ENDS), sa.not_(waits)
    )
    looks_up = Operation.analysis_key.is_not(None)
    changed: Any = session.execute(
        sa.update(Operation)
        .where(
            Operation.job_id == job.id,
            Operation.status == "queued",
            Operation.due_at.is_(None),
            Operation.waits_since.is_(None),
            Operation.generation_id.in_(ready),
        )
        .values(
            due_at=sa.case((looks_up, None), else_=sa.func.clock_timestamp()),
            waits_since=sa.case((looks_up, sa.func.clock_timestamp()), else_=None),
        ),
        execution_options={"synchronize_session": False},
    )
    return int(changed.rowcount)


def _question(about: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], *, ends: datetime) -> Question:
    """Return the question for ``lines`` of the job that ``about`` has the columns of."""
    request = {
        "org_id": about["org_id"],
        "job_id": about["id"],
        "deadline_at": ends.isoformat(),
        "lines": list(lines),
        "partial": about["on_insufficient"] != "reject",
        "workflow": about["workflow"],
        "session_id": about["session_id"],
        "actor": about["user_id"],
        "accepted_at": about["created_at"].isoformat(),
        "cap_id": about["cap_id"],
        "daily_cap": about["daily_cap"],
    }
    if about["quote_id"]:
        request |= {"quote_id": about["quote_id"], "fingerprint": about["fingerprint"]}
        request["waits"] = about["on_insufficient"] == "pause"  # such a job keeps its quote until it can be paid for
    return Question(
        job_id=about["id"],
        request=request,
        asked_at=about["reserve_after"],
        correlation_id=about["correlation_id"],
    )


def _ask(credits_service: Credits, several: Sequence[Question]) -> list[Any]:
    """Return what credits answer to each question: the hold, or the `Problem`."""
    if len(several) == 1:
        return [_ask_alone(credits_service, several[0])]
    calls = [Call(arguments=each.request, correlation_id=each.correlation_id).packed() for each in several]
    try:
        return outcomes_of(credits_service.reserve_many(calls=calls))
    except Unavailable as problem:
        return [problem] * len(several)
    except Problem:  # about the command itself, which credits that are yet to be updated do not know
        return [_ask_alone(credits_service, each) for each in several]


def _ask_alone(credits_service: Credits, asked: Question) -> dict[str, Any] | Problem:
    try:
        return credits_service.reserve(**asked.request)
    except Problem as problem:
        return problem


def _record(db: Database, told: Sequence[tuple[Question, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Act on holds: those that bring a job everything it waited for all at once, any others one by one."""
    with db.transaction() as session:
        jobs = endings.lock_jobs(session, (asked.job_id for asked, _ in told))
        whole = {
            asked.job_id: _amounts(asked, answer)
            for asked, answer in told
            if jobs[asked.job_id].status == "awaiting_credit" and not answer.get("shortfall")
        }
        starts.begin_whole(session, whole)
        settled = starts.settled(session, [job for job_id, job in jobs.items() if job_id not in whole])
        for asked, answer in told:
            if asked.job_id in whole or (asked.job_id in settled and not answer.get("shortfall")):
                continue
            shortfall = _shortfall(answer["shortfall"]) if answer.get("shortfall") else None
            job, amounts = jobs[asked.job_id], {line["line_id"]: line["amount"] for line in answer["lines"]}
            db.publish(session, record_answer(session, job, asked, amounts=amounts, shortfall=shortfall))
        db.notify(session, OPERATIONS_CHANNEL)
    return [{name: answer[name] for name in ("available", "held", "version")} for _, answer in told]


def _amounts(asked: Question, answer: Mapping[str, Any]) -> dict[str, int]:
    """Return what is held by line, where all that was asked for is: those not named are free of charge."""
    held = {line["line_id"]: line["amount"] for line in answer["lines"]}
    return {line["line_id"]: held.get(line["line_id"], 0) for line in asked.request["lines"]}


def _refused(db: Database, asked: Question, problem: Exception) -> Exception | None:
    """Act on a refusal; return it, unless it is no matter of the caller's."""
    try:
        if not isinstance(problem, Problem) or problem.status >= _ON_OUR_SIDE or _record_refusal(db, asked, problem):
            return problem
    except Exception as error:  # noqa: BLE001  the outcome of this one, while others have theirs
        return error
    return None


def _record_refusal(db: Database, asked: Question, problem: Problem) -> bool:
    """Act on credits' refusal; return whether the job was rejected for it, which is for the caller to know."""
    with db.transaction() as session:
        job = endings.lock_jobs(session, [asked.job_id])[asked.job_id]
        db.publish(session, _after_refusal(session, job, asked, problem))
        return job.status == "rejected" and not isinstance(problem, JobClosed)


def _after_refusal(session: Session, job: Job, asked: Question, problem: Problem) -> list[Event]:
    now = endings.database_now(session)
    awaiting = job.status == "awaiting_credit"
    if isinstance(problem, HoldRefused):
        if job.on_insufficient == "pause" or (job.on_insufficient == "partial" and not awaiting):
            return record_answer(session, job, asked, amounts={}, shortfall=_shortfall(problem.as_dict()))
        return endings.reject(session, job, now=now, code=problem.code)
    log.warning("lines_refused", job_id=job.id, status=job.status, code=problem.code)
    code = "invalid_input" if isinstance(problem, _ASKED_WRONGLY) else "internal_error"
    if awaiting:
        # Of a job that credits have closed nobody knows more than that: it is given up when it is a minute old.
        return [] if isinstance(problem, JobClosed) else endings.reject(session, job, now=now, code=code)
    if job.status in JOB_ENDS:
        return []
    # It was told once that it may wait, and will never hear anything else from now on.
    job.reserve_after = job.waiting_reason = None
    message = _QUOTE_IS_GONE if isinstance(problem, QuoteUsed) else None
    return endings.fail(session, job, pauses.waiting_ids(session, job), code=code, now=now, message=message)


def _ask_later(job: Job, asked: Question, *, at: datetime) -> None:
    """Put the next question off, unless there has been cause for it since ``asked``: then it stays due."""
    if job.reserve_after == asked.asked_at and job.status not in JOB_ENDS:
        job.reserve_after = at


def _shortfall(told: Mapping[str, Any]) -> Shortfall:
    resets_at = told.get("resets_at")
    return Shortfall(code=told["code"], resets_at=datetime.fromisoformat(resets_at) if resets_at else None)
