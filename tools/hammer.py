"""Many clients at one ledger: they do whatever can be done there, all at once and in any order; then the proof.

It works on a PostgreSQL of its own. What the clients do stands in `hammer_movements`.
"""

import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.stack import start_postgres
from services.credits import accounts, audit, seals
from services.credits.handlers import OVERDUE_AFTER
from shared.database import Database, is_unavailable
from shared.migrations import upgrade
from shared.problems import Problem
from tools.hammer_field import Field, finished
from tools.hammer_movements import MOVEMENTS, ORGANIZATIONS, Movement

OPENING = 100
PROGRESS_SECONDS = 5.0
AT_ONCE = 20  # jobs that end in one batch
DONE = "done"
TOO_SLOW = "not in time"
DEADLOCK = "40P01"
REPORT_WIDTH = 160  # of a statement its beginning says enough
_WEIGHTS = [movement.weight for movement in MOVEMENTS]


@dataclass
class Client:
    """One who makes movements, what became of them by ``(name, outcome)``, and what should never have happened."""

    dice: random.Random
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of every movement, in how many seconds, and what the audit found.

    ``outcomes`` counts by ``(movement, outcome)``, where an outcome is done, the code of a refusal, or not in time;
    ``deadlocks`` are PostgreSQL's reports, each with the statements that waited for each other.
    """

    outcomes: Counter[tuple[str, str]]
    seconds: float
    entries: int
    violations: list[dict[str, Any]]
    failures: list[str]
    deadlocks: list[str]

    @property
    def sound(self) -> bool:
        """Tell whether nothing was found."""
        return not (self.violations or self.failures or self.deadlocks)


def hammer(*, clients: int, seconds: float, seed: int, tell: Callable[[str], None]) -> Result:
    """Let ``clients`` threads at the ledger for so long, end every job, and audit what is left.

    ``tell`` gets a line every few seconds.
    """
    with _ledger(clients) as (database, log):
        for org_id, plan in ORGANIZATIONS.items():
            accounts.open_account(database, org_id=org_id, plan=plan, amount=OPENING)
        shared = Field(database=database)
        crew = [Client(random.Random(seed * 1000 + number)) for number in range(clients)]  # noqa: S311  repeatable
        _let_loose(crew, shared, seconds=seconds, tell=tell)
        tell(f"  ends what {len(shared.held)} holds have left open, and audits")
        failures = [failure for client in crew for failure in client.failures]
        failures += _end_everything(shared)
        with database.transaction(time_limit_seconds=300) as session:
            proof = audit.run(session, grace=OVERDUE_AFTER)
        deadlocks = deadlocks_in(log.read_text(errors="replace"))
    return Result(
        outcomes=_sum(crew),
        seconds=seconds,
        entries=proof["entries"],
        violations=proof["violations"],
        failures=failures,
        deadlocks=deadlocks,
    )


@contextmanager
def _ledger(clients: int) -> Iterator[tuple[Database, Path]]:
    """Yield a ledger's database, and the log of its server."""
    with tempfile.TemporaryDirectory(prefix="darkroom-hammer-") as folder:
        server = start_postgres(Path(folder))
        try:
            url = server.create_service_database("credits")
            upgrade("credits", url=url)
            database = Database(url, application="hammer", pool_size=clients)
            yield database, Path(folder) / "postgres.log"
            database.engine.dispose()
        finally:
            server.stop()


def _let_loose(crew: Sequence[Client], shared: Field, *, seconds: float, tell: Callable[[str], None]) -> None:
    enough = threading.Event()
    threads = [threading.Thread(target=_work, args=(client, shared, enough)) for client in crew]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        while (left := began + seconds - time.monotonic()) > 0:
            enough.wait(min(left, PROGRESS_SECONDS))
            tell(_progress(crew, time.monotonic() - began))
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def _work(client: Client, shared: Field, enough: threading.Event) -> None:
    """Make one movement after the other; what should never happen is noted, and ends this client."""
    while not (enough.is_set() or client.failures):
        (movement,) = client.dice.choices(MOVEMENTS, _WEIGHTS)
        try:
            outcome = _make(movement, client, shared)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the finding
            client.failures.append(f"{movement.name}: {type(error).__name__}: {error}")
        else:
            client.outcomes[movement.name, outcome] += 1


def _make(movement: Movement, client: Client, shared: Field) -> str:
    try:
        movement.make(shared, client.dice)
    except movement.refusals as refusal:
        return refusal.code
    except Problem:
        raise
    except Exception as error:
        if getattr(getattr(error, "orig", None), "pgcode", None) == DEADLOCK or not is_unavailable(error):
            raise
        return TOO_SLOW
    return DONE


def _end_everything(shared: Field) -> list[str]:
    """End every job and seal what was written; return what went wrong."""
    try:
        for first in range(0, len(shared.held), AT_ONCE):
            shared.tell([finished(held) for held in shared.held[first : first + AT_ONCE]])
        seals.seal_entries(shared.database)
    except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
        return [f"the end: {type(error).__name__}: {error}"]
    return []


def deadlocks_in(log: str) -> list[str]:
    """Return PostgreSQL's reports of deadlocks: who waited for whom, and their statements."""
    return [_cut(found) for found in re.findall(r"deadlock detected\n.*DETAIL:((?:.*\n)(?:\t.*\n)*)", log)]


def _cut(report: str) -> str:
    return "\n".join(line[:REPORT_WIDTH] for line in report.strip().splitlines())


def _sum(crew: Sequence[Client]) -> Counter[tuple[str, str]]:
    return sum((Counter(dict(client.outcomes)) for client in crew), Counter())


def _progress(crew: Sequence[Client], seconds: float) -> str:
    outcomes = _sum(crew)
    total, done = outcomes.total(), sum(count for (_, outcome), count in outcomes.items() if outcome == DONE)
    failed = sum(len(client.failures) for client in crew)
    return f"  {seconds:>4.0f} s {done:>8,} movements {total - done:>8,} refused" + (
        f" {failed:>4} FAILED" if failed else ""
    )
