"""Many clients at one ledger: they hold, settle and grant at once, several times and in any order; then the proof.

It works on a PostgreSQL of its own and knows nothing of how the ledger does it: only its commands, its events, and
the audit that recomputes everything.
"""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.stack import start_postgres
from services.credits import accounts, audit, handlers
from services.credits.handlers import OVERDUE_AFTER
from shared.database import Batch, Database, is_unavailable
from shared.events import Event, GenerationCompleted, GenerationFailed, JobFinished, SettledLine
from shared.ids import new_id
from shared.migrations import upgrade
from shared.problems import InsufficientCredits, JobClosed

ORGANIZATIONS = 3  # few, so that everybody is always at the same accounts
OPENING = 500
_DEADLINE = "2099-01-01T00:00:00Z"


@dataclass(frozen=True)
class OpenJob:
    """A job with held lines, known to all clients."""

    job_id: str
    org_id: str
    line_ids: tuple[str, ...]


@dataclass
class Field:
    """What the clients share."""

    database: Database
    until: float
    jobs: list[OpenJob] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[BaseException] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How often each thing happened, in how many seconds, and what the audit found."""

    done: dict[str, int]
    seconds: float
    entries: int
    violations: list[dict[str, Any]]
    failures: list[BaseException]


def hammer(*, clients: int, seconds: float, seed: int) -> Result:
    """Let ``clients`` threads at the ledger for so long, end every job, and audit what is left."""
    with _ledger(clients) as database:
        for number in range(ORGANIZATIONS):
            accounts.open_account(database, org_id=_org(number), plan="pro", amount=OPENING)
        shared = Field(database=database, until=time.monotonic() + seconds)
        threads = [threading.Thread(target=_client, args=(shared, seed * 1000 + number)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for job in shared.jobs:
            _deliver(shared, [_finished(job)])
        with database.transaction(time_limit_seconds=300) as session:
            proof = audit.run(session, grace=OVERDUE_AFTER)
    return Result(
        done=dict(shared.done),
        seconds=seconds,
        entries=proof["entries"],
        violations=proof["violations"],
        failures=shared.failures,
    )


@contextmanager
def _ledger(clients: int) -> Iterator[Database]:
    with tempfile.TemporaryDirectory(prefix="darkroom-hammer-") as folder:
        server = start_postgres(Path(folder))
        try:
            url = server.create_service_database("credits")
            upgrade("credits", url=url)
            database = Database(url, application="hammer", pool_size=clients)
            yield database
            database.engine.dispose()
        finally:
            server.stop()


def _client(shared: Field, seed: int) -> None:
    """Do one thing after the other until the time is over; what should never happen ends this client."""
    dice = random.Random(seed)  # noqa: S311  repeatable on purpose
    actions = [_reserve, _reserve, _settle, _settle, _settle, _finish, _grant]
    try:
        while time.monotonic() < shared.until:
            action = dice.choice(actions)
            try:
                action(shared, dice)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                shared.done["tried again"] += 1
    except Exception as error:  # noqa: BLE001  whatever it is, it is the finding
        shared.failures.append(error)


def _reserve(shared: Field, dice: random.Random) -> None:
    """Hold credits: for a new job, or more lines for one that may have ended meanwhile."""
    fresh = OpenJob(new_id("job"), _org(dice.randrange(ORGANIZATIONS)), ())
    job = dice.choice(shared.jobs) if shared.jobs and dice.random() < 0.2 else fresh  # noqa: PLR2004  one in five
    lines = tuple(new_id("gen") for _ in range(dice.randint(1, 5)))
    try:
        handlers.reserve(
            shared.database,
            org_id=job.org_id,
            job_id=job.job_id,
            deadline_at=_DEADLINE,
            lines=[{"line_id": line, "sku": "staging.variant"} for line in lines],
        )
    except InsufficientCredits:
        shared.done["refused: not enough credits"] += 1
    except JobClosed:
        shared.done["refused: job closed"] += 1
    else:
        shared.jobs.append(OpenJob(job.job_id, job.org_id, lines))
        shared.done["held"] += 1


def _settle(shared: Field, dice: random.Random) -> None:
    """Deliver ends of some lines, in any order, and now and then two different ends of the same line."""
    if shared.jobs:
        chosen = [dice.choice(shared.jobs) for _ in range(dice.randint(1, 6))]
        ends = [_ended(job, line, dice) for job in chosen for line in job.line_ids]
        for kind in (GenerationCompleted, GenerationFailed):
            _deliver(shared, [end for end in ends if isinstance(end, kind)])
        shared.done["settled a batch"] += 1


def _finish(shared: Field, dice: random.Random) -> None:
    if shared.jobs:
        _deliver(shared, [_finished(dice.choice(shared.jobs))])
        shared.done["finished a job"] += 1


def _grant(shared: Field, dice: random.Random) -> None:
    accounts.grant(
        shared.database,
        grant_id=new_id("grt"),
        org_id=_org(dice.randrange(ORGANIZATIONS)),
        amount=dice.randint(1, 50),
        kind="promotional",
        reason="hammer",
        actor="hammer",
    )
    shared.done["granted"] += 1


def _deliver(shared: Field, events: Sequence[Event]) -> None:
    """Let the ledger's own handlers have the events, as its subscriptions would."""
    handle: dict[type[Event], Any] = {
        GenerationCompleted: handlers.capture_completed_generations,
        GenerationFailed: handlers.refund_failed_generations,
        JobFinished: handlers.close_finished_jobs,
    }
    if events:
        with shared.database.transaction() as session:
            shared.database.publish(session, handle[type(events[0])](session, Batch(events, consumer="hammer")))


def _ended(job: OpenJob, line_id: str, dice: random.Random) -> Event:
    about: dict[str, Any] = {
        "job_id": job.job_id,
        "generation_id": line_id,
        "line_id": line_id,
        "org_id": job.org_id,
        "user_id": None,
        "workflow": "staging",
    }
    if dice.random() < 0.3:  # noqa: PLR2004  three in ten fail
        return GenerationFailed(**about, reason="provider_error", message="", retryable=True)
    amount = dice.choice([10, 10, 10, 4])  # 4: the cache had the rest
    return GenerationCompleted(
        **about, amount=amount, images=[], provider="local", model="", duration_ms=0, provider_cost_microusd=0
    )


def _finished(job: OpenJob) -> JobFinished:
    lines = [SettledLine(line_id=line, outcome="refunded", amount=10, reason="cancelled") for line in job.line_ids]
    return JobFinished(
        job_id=job.job_id,
        org_id=job.org_id,
        user_id=None,
        workflow="staging",
        status="cancelled",
        succeeded=0,
        failed=len(lines),
        lines=lines,
    )


def _org(number: int) -> str:
    return f"org_hammer_{number}"
