"""P4, the ledger: many writers at one account, and one hold of 2,000 lines, against the ORM and a raw batch.

A hold is a reservation, its lines, two entries a line, the wallet and an event in the outbox, committed. The clock runs
from `go` until the contender says that its last hold is committed.
"""

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import audit, children, machine, report, servers
from benchmarks.contenders import plain_tables
from benchmarks.report import Contender, Round, Stopwatch, Target
from benchmarks.servers import Observed
from benchmarks.writers import AMOUNT, WARM_UP_HOLDS
from services.credits import accounts
from services.credits import audit as proof
from shared import logs, migrations
from shared.database import Database

WRITERS = 16
HOLDS, HELD_SINGLY = 10_000, 1_000
HOLDS_FULL = 10_000
LINES = 2_000
BULK_HOLDS = 5
ROUND_SECONDS = 120.0
PROOF_SECONDS = 120.0
PROOF_GRACE = timedelta(days=365)

OURS, UNGATHERED, ORM, RAW = "reserve", "reserve ungathered", "ORM for update", "raw batches"
OURS_AT_ONCE, OURS_SINGLY = "reserve, at once", "reserve, singly"
ORM_SINGLY, RAW_AT_ONCE = "ORM for update, singly", "raw, at once"
HOT_TARGETS = (Target(than=ORM, at_least=2.0), Target(than=UNGATHERED, at_least=1.0))
BULK_TARGETS = (
    Target(than=ORM_SINGLY, at_least=25.0),
    Target(than=OURS_SINGLY, at_least=25.0),
    Target(than=RAW_AT_ONCE, at_least=0.4),
)
BULK_MILLISECONDS = 100.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """A database with a ledger, and how an account is opened and the whole is proved there."""

    observed: Observed
    log_folder: Path
    opened: list[str] = field(default_factory=list)

    def open_account(self, org_id: str, *, amount: int) -> None:
        """Give an organization a wallet of ``amount``."""
        statement = "INSERT INTO accounts (org_id, unit, kind, available) VALUES (%s, 'credits', %s, %s)"
        self.observed.run(statement, org_id, "wallet", amount)
        self.observed.run(statement, org_id, "held", 0)

    def prove(self) -> None:
        """Check what must be true of all accounts; nothing more than the figures of each round where it is plain."""


@dataclass(frozen=True, kw_only=True)
class OurPlace(Place):
    """The database of credits."""

    database: Database

    def open_account(self, org_id: str, *, amount: int) -> None:
        """Open it as the gateway does."""
        accounts.open_account(self.database, org_id=org_id, plan="pro", amount=amount)

    def prove(self) -> None:
        """Let the ledger's own audit recompute everything."""
        with self.database.transaction(time_limit_seconds=PROOF_SECONDS) as session:
            found = proof.run(session, grace=PROOF_GRACE)
        audit.check("violations the ledger's audit found", found=found["violations"], expected=[])


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a contender holds: its program, where, and what it is told; ``count`` holds of ``lines`` each."""

    module: str
    place: Place
    count: int
    lines: int = 1
    writers: int = 1
    orders: dict[str, Any] = field(default_factory=dict)


def run(*, rounds: int, full: bool) -> bool:
    """Run both; tell whether every target was reached."""
    with _places() as (ours, plain):
        many, few = (HOLDS_FULL, HOLDS_FULL) if full else (HOLDS, HELD_SINGLY)
        print(f"\n   hot account: {WRITERS} writers, an event is a hold of one line")
        hot = report.run_in_turn(_hot(ours, plain, many=many, few=few), rounds=rounds)
        met = report.judge(hot, HOT_TARGETS)
        report.write_csv("ledger-hot", hot)
        print(f"\n   bulk: one writer, {LINES:,} lines in one call or one by one, an event is a line held")
        machine.wait_until_quiet()
        bulk = report.run_in_turn(_bulk(ours, plain), rounds=rounds)
        met = report.judge(bulk, BULK_TARGETS) and met
        met = _judge_time(bulk) and met
        report.write_csv("ledger-bulk", bulk)
    return met


def _hot(ours: Place, plain: Place, *, many: int, few: int) -> list[Contender]:
    return [
        _contender(OURS, Way(**_ours(ours, "gathered"), writers=WRITERS, count=many)),
        _contender(UNGATHERED, Way(**_ours(ours, "alone"), writers=WRITERS, count=few)),
        _contender(ORM, Way(module="orm_holds", place=plain, writers=WRITERS, count=few)),
        _contender(RAW, Way(module="raw_holds", place=plain, count=many, orders={"at_once": WRITERS})),
    ]


def _bulk(ours: Place, plain: Place) -> list[Contender]:
    all_at_once: dict[str, Any] = {"count": BULK_HOLDS, "lines": LINES}
    return [
        _contender(OURS_AT_ONCE, Way(**_ours(ours, "gathered"), **all_at_once)),
        _contender(OURS_SINGLY, Way(**_ours(ours, "gathered"), count=LINES)),
        _contender(ORM_SINGLY, Way(module="orm_holds", place=plain, count=LINES)),
        _contender(RAW_AT_ONCE, Way(module="raw_holds", place=plain, orders={"at_once": 1}, **all_at_once)),
    ]


def _ours(place: Place, way: str) -> dict[str, Any]:
    return {"module": "our_holds", "place": place, "orders": {"way": way}}


def _contender(name: str, way: Way) -> Contender:
    return Contender(name=name, events=way.count * way.lines, run=partial(_hold, way))


def _hold(way: Way, run: str) -> Stopwatch:
    """Let the contender empty an account of its own, and audit; a second account is for its warm-up."""
    place = way.place
    org_id, warm_up_org_id = (f"org_{run}_{len(place.opened)}_{name}" for name in ("measured", "warm_up"))
    place.opened.append(org_id)
    place.open_account(org_id, amount=AMOUNT * way.lines * way.count)
    place.open_account(warm_up_org_id, amount=AMOUNT * way.lines * WARM_UP_HOLDS * way.writers)
    watch = Stopwatch()
    with children.running(
        f"benchmarks.contenders.{way.module}",
        log_folder=place.log_folder,
        database_url=place.observed.database_url,
        org_id=org_id,
        warm_up_org_id=warm_up_org_id,
        count=way.count,
        lines=way.lines,
        writers=way.writers,
        **way.orders,
    ) as child:
        place.observed.run("TRUNCATE outbox")
        place.observed.run("CHECKPOINT")
        watch.start(child)
        child.tell("go")
        child.expect("done", seconds=ROUND_SECONDS)
        watch.stop()
    _audit(place, org_id, holds=way.count, lines=way.count * way.lines)
    return watch


def _audit(place: Place, org_id: str, *, holds: int, lines: int) -> None:
    ask = place.observed.ask
    held = ask("SELECT count(*) FROM lines WHERE org_id = %s AND status = 'held'", org_id)
    audit.check("lines held", found=held, expected=lines)
    audit.check("jobs", found=ask("SELECT count(*) FROM reservations WHERE org_id = %s", org_id), expected=holds)
    entries = "SELECT count(*) FROM entries WHERE org_id = %s AND kind = 'hold'"
    audit.check("entries", found=ask(entries, org_id), expected=2 * lines)
    wallet = (
        "SELECT ARRAY[available, held_total] FROM accounts WHERE org_id = %s AND unit = 'credits' AND kind = 'wallet'"
    )
    audit.check("available and held", found=ask(wallet, org_id), expected=[0, lines * AMOUNT])
    events = "SELECT count(DISTINCT event_id) FROM outbox WHERE type = 'CreditReserved'"
    audit.check("events in the outbox", found=ask(events), expected=holds)
    place.prove()


def _judge_time(rounds: Sequence[Round]) -> bool:
    """Print how long one bulk hold took, and tell whether its median is short enough."""
    taken = [
        made.seconds / BULK_HOLDS * 1000 for made in rounds if made.round and made.contender == rounds[0].contender
    ]
    median = statistics.median(taken)
    met = median <= BULK_MILLISECONDS
    print(
        f"   {f'{LINES:,} lines in one call, ms':<42} {median:>9.2f} {min(taken):>9.2f} {max(taken):>9.2f}"
        f"   <= {BULK_MILLISECONDS:g}   {'PASS' if met else 'MISS'}"
    )
    return met


@contextlib.contextmanager
def _places() -> Iterator[tuple[Place, Place]]:
    """Start PostgreSQL with the ledger of credits in one database, and the plain one in another."""
    with (
        servers.postgres_started() as (home, postgres),
        servers.database_made(postgres, "credits") as credits_,
        servers.database_made(postgres, "plain") as plain,
    ):
        migrations.upgrade("credits", url=credits_.database_url)
        engine = sa.create_engine(plain.database_url, poolclass=sa.NullPool)
        plain_tables.Model.metadata.create_all(engine)
        database = Database(credits_.database_url, application="benchmark")
        logs.configure(process="benchmark", level="WARNING")  # each account opened would be a line among the results
        yield (
            OurPlace(observed=credits_, log_folder=home, database=database),
            Place(observed=plain, log_folder=home),
        )
        database.engine.dispose()
