"""Commands and events of the engine: taking jobs in, and what credits has to say about them.

How a job is planned, written down and paid for stands in planning.py, submissions.py and holding.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy.orm import Session

from services.generation import (
    cached_plans,
    coalescing,
    endings,
    hints,
    histories,
    holding,
    planning,
    queries,
    queue_caps,
    rehearsal,
    saved_styles,
    staging_admission,
    starts,
    submissions,
    tech_pack_inputs,
    trials,
)
from services.generation.engine import Engine
from services.generation.holding import Credits, Question
from services.generation.models import Job
from services.generation.staging_steps import is_free
from services.generation.submissions import Planned, Submission
from shared.crash import crash_point
from shared.database import Database
from shared.events import (
    CreditReserved,
    CreditsAdjusted,
    CreditsGranted,
    Event,
    JobFinished,
    PlanChanged,
    ProviderCallbackReceived,
    RefundIssued,
    ReservationOverdue,
    SettledLine,
    caused_by,
)
from shared.gathering import taken_apart
from shared.problems import BadRequest, NotFound, Problem

log = structlog.get_logger(__name__)

_SHORT_OF = {"credits": ("insufficient_credits",), "plan_generations": ("quota_exceeded",)}
# What comes back to the wallet is no longer counted against the cap of a key either.
_SHORT_OF_BEFORE_REFUND = {**_SHORT_OF, "credits": ("insufficient_credits", "key_cap_reached")}


def submit(db: Database, credits_service: Credits, engine: Engine, asked: Submission) -> dict[str, Any]:
    """Take a job in, hold its credits, and queue it. Idempotent by ``job_id``. A dry run does nothing of it.

    A job of a test key holds nothing; see `trials` for what else is different about it.

    Returns:
        ``{job, balance}``: the job as clients see it, and the wallet after the hold or None; a job that may wait for
        credits is there even if nothing was held. Of a dry run: see `rehearsal.rehearse`.

    Raises:
        BadRequest: the inputs do not fit the workflow.
        LimitExceeded: it is more than one job may be, or than may be open for an organization's test keys.
        QueueFull: so much is open for the organization that there is no room for it now; nothing was written or held.
        HoldRefused, QuoteExpired, QuoteUsed, QuoteMismatch, NotFound: what credits said; nothing was held, and the job
            ended as ``rejected``.
        Unavailable: credits did not answer; asking again with the same ``job_id`` goes on from here.
    """
    (outcome,) = submit_many(db, credits_service, engine, [asked])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def submit_many(
    db: Database, credits_service: Credits, engine: Engine, several: Sequence[Submission]
) -> list[dict[str, Any] | Exception]:
    """Take several jobs in, of any organizations, with as many statements and calls as one would need.

    Returns:
        For each, in order, what `submit` returns, or the exception it raises: one that is refused, or breaks, does
        not touch the others.
    """
    outcomes: dict[int, dict[str, Any] | Exception] = {}
    for places in _rounds(several):
        together = partial(_submit_together, db, credits_service, engine)
        done = taken_apart(together, [several[place] for place in places])
        outcomes.update(zip(places, done, strict=True))
    return [outcomes[place] for place in range(len(several))]


def sync(db: Database, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
    """Have providers asked now for everything of a job that they have, and return it as it is yet.

    Raises:
        NotFound: the organization has no such job in this mode.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        shown = queries.job(session, org_id=org_id, livemode=livemode, job_id=job_id)
        hints.hint_job(session, job_id)
    return shown


def operation_log(db: Database, *, since: str | None = None, **filters: Any) -> dict[str, Any]:
    """Return the AI operation log for operators, of every organization; see `histories.operation_log`.

    Raises:
        BadRequest: ``since`` is no time in ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(since) if since else None
    except ValueError as error:
        raise BadRequest("`since` is no time: write it as 2026-01-31T12:00:00Z.") from error
    with db.transaction() as session:
        return histories.operation_log(session, since=moment, **filters)


def queue_paid_jobs(session: Session, events: Sequence[CreditReserved]) -> list[Event]:
    """Queue what credits are held for; what has ended is told once more, so that credits gives its lines back."""
    jobs = endings.lock_jobs(session, (event.job_id for event in events))
    settled = starts.settled(session, list(jobs.values()))
    answers: list[Event] = []
    for event in events:
        job = jobs.get(event.job_id)
        if job is None:
            answers.append(_unknown_job(event, [line.line_id for line in event.lines]))
        elif job.id not in settled:  # mostly the answer was here before its event
            answers += holding.record_event(session, job, {line.line_id: line.amount for line in event.lines})
    return answers


def answer_overdue(session: Session, events: Sequence[ReservationOverdue]) -> list[Event]:
    """Tell credits how the jobs of its overdue lines ended; say nothing while a job runs or is paused."""
    jobs = endings.lock_jobs(session, (event.job_id for event in events))
    answers: list[Event] = []
    for event in events:
        job = jobs.get(event.job_id)
        if job is None:
            answers.append(_unknown_job(event, event.line_ids))
        else:
            answers += holding.still_held(session, job, event.line_ids)
    return answers


def ask_providers_now(session: Session, events: Sequence[ProviderCallbackReceived], *, engine: Engine) -> list[Event]:
    """Have operations asked for that providers say are done; it is a hint, and a wrong one does no harm."""
    hints.take(session, engine, events)
    return []


def ask_for_waiting_jobs(
    session: Session, events: Sequence[PlanChanged | CreditsGranted | CreditsAdjusted | RefundIssued]
) -> list[Event]:
    """Let credits be asked again for the jobs that wait for what an organization may have more of now.

    Nothing that happens here moves the day's limit: those that wait for it ask when it is time to.
    """
    causes = {(event.org_id, code) for event in events for code in _may_wait_no_longer(event)}
    if causes:
        holding.ask_now(session, causes)
    return []


def _rounds(several: Sequence[Submission]) -> list[list[int]]:
    """Return the places of submissions, each job at most once in a round: a repeat finds what came before it."""
    rounds: list[dict[str, int]] = []
    for place, asked in enumerate(several):
        free = next((one for one in rounds if asked.job_id not in one), None)
        if free is None:
            rounds.append(free := {})
        free[asked.job_id] = place
    return [list(one.values()) for one in rounds]


def _submit_together(
    db: Database, credits_service: Credits, engine: Engine, several: Sequence[Submission]
) -> list[dict[str, Any] | Exception]:
    outcomes: dict[str, Any] = {}
    ready = []
    for named in several:
        asked = named
        try:
            asked = _with_what_is_known(db, named)
            of_mode = engine.in_mode(livemode=asked.livemode)
            plan = cached_plans.plan(db, of_mode, asked)
            plan = planning.for_nothing(plan) if is_free(asked.retry_number) else plan
            if asked.dry_run:
                staging_admission.rehearse(db, asked, generations=len(plan.generations))
                outcomes[asked.job_id] = rehearsal.rehearse(credits_service, of_mode, asked, plan)
            else:
                ready.append(submissions.planned(of_mode, asked, plan))
        except Problem as problem:
            outcomes[asked.job_id] = problem
    live = [each for each in ready if each.asked.livemode]
    if live:
        outcomes |= _accept(db, credits_service, engine, live)
    for each in ready:
        if not each.asked.livemode:
            outcomes[each.asked.job_id] = _accept_trial(db, credits_service, engine, each)
    return [outcomes[asked.job_id] for asked in several]


def _with_what_is_known(db: Database, asked: Submission) -> Submission:
    assets = known_inputs(
        db,
        workflow=asked.workflow,
        org_id=asked.org_id,
        livemode=asked.livemode,
        inputs=asked.inputs,
        assets=asked.assets,
    )
    return asked if assets is asked.assets else replace(asked, assets=assets)


def known_inputs(db: Database, *, workflow: str, assets: Mapping[str, Any], **about: Any) -> Mapping[str, Any]:
    """Return the snapshots a job works on with what this service itself knows of what its inputs name.

    ``about`` are ``org_id``, ``livemode`` and ``inputs``.

    Raises:
        NotFound: they name a saved style, or a part of a technical pack, that is not there.
    """
    styled = saved_styles.resolved(db, assets=assets, **about)
    return tech_pack_inputs.resolved(db, workflow=workflow, assets=styled, **about)


def _accept_trial(db: Database, credits_service: Credits, engine: Engine, each: Planned) -> dict[str, Any] | Problem:
    """Write a test key's job, alone: its organization waits for it, and it may be one too many."""
    try:
        trials.take_quote(db, credits_service, engine, each.asked.named, plan=each.plan)
        with db.transaction() as session:
            steps, refused = staging_admission.begin(session, [each])
            if refused:
                raise refused[each.asked.job_id]
            events, new = submissions.take_in(session, [each])
            db.publish(session, [*steps, *events])
            if new:
                trials.require_room(session, engine, org_id=each.asked.org_id)
            _require_own(session.get_one(Job, each.asked.job_id), each.asked)
    except Problem as problem:
        return problem
    crash_point("submit.after_job")
    _look_up(db, engine, [each])
    return _shown(db, [each.asked], {})[each.asked.job_id]


def _accept(db: Database, credits_service: Credits, engine: Engine, ready: Sequence[Planned]) -> dict[str, Any]:
    """Write the jobs there is room for, hold their credits, and show them; return the outcomes by job."""
    with db.transaction() as session:
        refused = queue_caps.refusals(session, engine, ready)
        steps, too_late = staging_admission.begin(session, [each for each in ready if each.asked.job_id not in refused])
        refused |= too_late
        ready = [each for each in ready if each.asked.job_id not in refused]
        events, rows = submissions.take_in(session, ready)
        db.publish(session, [*steps, *events])
        questions = {each.asked.job_id: _question(session, each, rows.get(each.asked.job_id)) for each in ready}
    crash_point("submit.after_job")
    asking = [question for question in questions.values() if isinstance(question, Question)]
    held = holding.hold_all(db, credits_service, asking)
    outcomes: dict[str, Any] = {job_id: one for job_id, one in questions.items() if isinstance(one, Problem)}
    outcomes |= {asked.job_id: one for asked, one in zip(asking, held, strict=True)}
    taken_in = [each for each in ready if not isinstance(outcomes.get(each.asked.job_id), Exception)]
    _look_up(db, engine, taken_in)
    return outcomes | _shown(db, [each.asked for each in taken_in], outcomes) | refused


def _look_up(db: Database, engine: Engine, several: Sequence[Planned]) -> None:
    """Let jobs take at once what is known of what they ask for."""
    asking = [each.asked.job_id for each in several if any(row["analysis_key"] for row in each.operations)]
    if asking:
        coalescing.settle_jobs(db, engine, asking)


def _question(session: Session, each: Planned, row: Mapping[str, Any] | None) -> Question | Problem | None:
    """Return what credits are to be asked for a job, just written as ``row`` or there before; None where nothing is."""
    if row is not None:
        return holding.first_question(row, each.generations)
    job = session.get_one(Job, each.asked.job_id)
    try:
        _require_own(job, each.asked)
    except NotFound as problem:
        return problem
    return holding.question(session, job) if job.status == "awaiting_credit" else None


def _shown(db: Database, asked: Sequence[Submission], balances: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each job as clients see it, and the wallet after its hold."""
    if not asked:
        return {}
    owners = {(each.org_id, each.livemode) for each in asked}
    org_id, livemode = owners.pop() if len(owners) == 1 else (None, None)
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        jobs = queries.jobs_by_id(session, {each.job_id: (each.org_id, each.livemode) for each in asked})
    return {job_id: {"job": job, "balance": balances.get(job_id)} for job_id, job in jobs.items()}


def _require_own(job: Job, asked: Submission) -> None:
    if (job.org_id, job.livemode) != (asked.org_id, asked.livemode):
        raise NotFound("There is no such job.")


def _may_wait_no_longer(event: PlanChanged | CreditsGranted | CreditsAdjusted | RefundIssued) -> Sequence[str]:
    """Return why jobs waited that may be paid for now; nothing where there is not more of anything."""
    if isinstance(event, PlanChanged):
        return ("quota_exceeded",)
    codes = _SHORT_OF_BEFORE_REFUND if isinstance(event, RefundIssued) else _SHORT_OF
    return codes.get(event.unit, ()) if event.amount > 0 else ()


def _unknown_job(event: CreditReserved | ReservationOverdue, line_ids: Sequence[str]) -> JobFinished:
    """Credits are held for a job nobody here knows: say that it was rejected, so that they are given back."""
    log.warning("reservation_of_unknown_job", job_id=event.job_id)
    return JobFinished(
        meta=caused_by(event),
        job_id=event.job_id,
        org_id=event.org_id,
        user_id=None,
        workflow="unknown",
        status="rejected",
        succeeded=0,
        failed=len(line_ids),
        lines=[
            SettledLine(line_id=line_id, outcome="refunded", amount=0, reason="internal_error") for line_id in line_ids
        ],
    )
