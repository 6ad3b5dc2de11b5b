"""Claiming: 100,000 queued operations of 1,000 organizations; how long a claim takes, by its size. No contender.

A claim is what a worker's scheduler makes of it, from the wish for work to operations in hand: the lock, the limits of
organizations, providers and their rates, the circuits, the commit (fsync on). After each the claimed operations are
ended outside the clock, so that the queue is as long and the organizations as busy as under load.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import audit, machine, servers
from benchmarks.report import ROUNDS
from benchmarks.servers import Observed
from services.generation.engine import Engine
from services.generation.providers import available
from services.generation.scheduler import Scheduler
from shared import migrations
from shared.database import Database
from shared.storage import open_store

ORGANIZATIONS = 1_000
QUEUED_EACH = 100
AT_WORK = 200
SIZES = (8, 20, 50)
CLAIMS = 100
WARM_UP_CLAIMS = 20
# At both providers at once, and a tenth of what one may be sent in a minute: limits that are looked at, not met.
MANY = 100_000
MEDIAN_MILLISECONDS = 10.0

_FILL = (
    """
    INSERT INTO jobs (id, org_id, workflow, inputs, assets, status, livemode, total, open_generations,
                      estimated_seconds, deadline_at)
    SELECT 'job_' || n, 'org_' || n, 'staging', '{}', '{}', 'running', true, 1, 1, 60, now() + interval '1 day'
    FROM generate_series(1, %(organizations)s) AS n
    """,
    """
    INSERT INTO generations (id, org_id, job_id, number, status, seed, settings, livemode)
    SELECT 'gen_' || n, 'org_' || n, 'job_' || n, 1, 'running', 1, '{}', true
    FROM generate_series(1, %(organizations)s) AS n
    """,
    """
    INSERT INTO operations (id, org_id, job_id, generation_id, position, name, status, lane, livemode, provider,
                            model_requested, prompt, prompt_version, inputs, seed, makes_image, due_at)
    SELECT 'op_' || n || '_' || place, 'org_' || n, 'job_' || n, 'gen_' || n, place, 'image.stage', 'queued',
           place %% 2, true, CASE WHEN place %% 4 = 0 THEN 'replicate' ELSE 'local' END, 'model-' || place %% 2,
           repeat('A room. ', 60), '1', '{"sources": ["assets/org/a.jpg"], "parameters": {}}', 1, true,
           now() - place * interval '1 s'
    FROM generate_series(1, %(organizations)s) AS n, generate_series(1, %(each)s) AS place
    """,
)
_END = """
UPDATE operations SET status = 'succeeded', lease_until = NULL, completed_at = now()
WHERE id IN (SELECT id FROM operations WHERE status = 'running' ORDER BY started_at OFFSET 0
             LIMIT greatest(0, (SELECT count(*) FROM operations WHERE status = 'running') - %s))
"""


def run(*, rounds: int = ROUNDS, full: bool = False) -> bool:
    """Measure claims of every size; tell whether the median of each is short enough."""
    count = CLAIMS * max(1, rounds // ROUNDS) * (5 if full else 1)
    met = True
    with _queue() as (observed, database):
        machine.wait_until_quiet()
        print(f"   {'claims of a 100,000 long queue':<34} {'median ms':>10} {'p95':>8} {'max':>8}")
        worker = _worker(database)
        for size in SIZES:
            _claims(observed, worker, size=size, count=WARM_UP_CLAIMS)
            met = _judge(size, _claims(observed, worker, size=size, count=count)) and met
    return met


def _worker(database: Database) -> Scheduler:
    """Return a scheduler that claims for real providers, and is never run: nothing of theirs is asked."""
    settings = {"API_KEY": "none", "CONCURRENCY": str(MANY), "REQUESTS_PER_MINUTE": str(MANY * 10)}
    providers = available({f"PROVIDER_REPLICATE_{name}": value for name, value in settings.items()})
    providers["local"].concurrency = MANY
    engine = Engine(providers=providers, routes={})
    nowhere = open_store(Path("/nonexistent").as_uri())
    return Scheduler(database, nowhere, engine, worker="benchmark", slots=max(SIZES), per_organization=20)


def _claims(observed: Observed, worker: Scheduler, *, size: int, count: int) -> list[float]:
    """Claim ``count`` times; return the milliseconds of each."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        claimed = worker._claim(size)  # noqa: SLF001  the whole of it, without the threads that would send them
        taken.append((time.perf_counter() - began) * 1000)
        audit.check("operations claimed", found=len(claimed), expected=size)
        observed.run(_END, AT_WORK)
    return taken


def _judge(size: int, taken: Sequence[float]) -> bool:
    median, p95 = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    met = median <= MEDIAN_MILLISECONDS
    print(
        f"   {f'{size} operations':<34} {median:>10.2f} {p95:>8.2f} {max(taken):>8.2f}"
        f"   <= {MEDIAN_MILLISECONDS:g}   {'PASS' if met else 'MISS'}"
    )
    return met


@contextlib.contextmanager
def _queue() -> Iterator[tuple[Observed, Database]]:
    """Start PostgreSQL with the engine's database and the queue in it."""
    with servers.postgres_started() as (_, postgres), servers.database_made(postgres, "generation") as observed:
        migrations.upgrade("generation", url=observed.database_url)
        fill(observed.observer, organizations=ORGANIZATIONS, each=QUEUED_EACH)
        observed.run("ANALYZE jobs, generations, operations")
        database = Database(observed.database_url, application="benchmark")
        yield observed, database
        database.engine.dispose()


def fill(connection: Any, *, organizations: int, each: int) -> None:
    """Queue ``each`` operations of every organization, of two providers with two models and in two lanes.

    ``connection`` may write for every organization: a superuser's, or in the system's role.
    """
    with connection.cursor() as cursor:
        for statement in _FILL:
            cursor.execute(statement, {"organizations": organizations, "each": each})
