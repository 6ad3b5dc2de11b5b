"""P9, the engine under a bulk order: 500 jobs of 4 images at a provider that takes 200 ms and bears 200 at once.

The clock runs from `go`, when everything is queued, until the last job has ended. Beside it a small organization asks
for one image every second; how long that waits to be sent is compared with how long it waits when it is alone.
"""

import json
import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import audit, machine, report, working
from benchmarks.children import wait_until
from benchmarks.report import Contender, Stopwatch, Target
from benchmarks.working import Crew, Place
from shared import logs
from shared.ids import new_id

JOBS, IMAGES_EACH = 500, 4
JOBS_OF_THE_SLOW = 100
LIMIT, SECONDS = 200, 0.2
WORKERS = 2
# Room for what is being stored beside what the provider is at.
SLOTS = 200
# Apart from each other by one of these, so that they do not always come at the same moment of a wave of answers.
APART_SECONDS = (0.35, 0.65)
IDLE_JOBS = 8
END_SECONDS = 180.0
MAKESPAN_AT_MOST, DELAY_AT_MOST = 1.3, 2.0

OURS, SINGLY, ORM = "ours", "ours, each write alone", "ORM, a row at a time"
TARGETS = (Target(than=SINGLY, at_least=1.5), Target(than=ORM, at_least=2.0))
_DONE = "SELECT count(*) = 0 FROM jobs WHERE org_id = %s AND finished_at IS NULL"
_NOW = "SELECT extract(epoch FROM clock_timestamp())"
_LAST_END = "SELECT extract(epoch FROM max(finished_at)) FROM jobs WHERE org_id = %s"
_DELAYS = """
SELECT array_agg(CAST(extract(epoch FROM {begun} - due_at) AS float) ORDER BY due_at)
FROM operations WHERE org_id = %s
"""


@dataclass(kw_only=True)
class Way:
    """A contender: its program, its place, and what it came to, by round. Times in seconds."""

    name: str
    module: str
    place: Place
    slots: int
    jobs: int
    begun: str = "sent_at"
    orders: dict[str, object] = field(default_factory=dict)
    makespans: dict[str, float] = field(default_factory=dict)
    loaded: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, list[float]] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    postgres_cpu: dict[str, float] = field(default_factory=dict)

    @property
    def operations(self) -> int:
        """How many the bulk order has."""
        return self.jobs * IMAGES_EACH

    @property
    def ideal_seconds(self) -> float:
        """How long they take if the provider never waits for us."""
        return self.operations * SECONDS / LIMIT

    def round(self, run: str) -> Stopwatch:
        """Work a bulk order off beside a small organization's jobs, then some of those alone, and audit."""
        bulk, small, alone = (new_id("org") for _ in range(3))
        place = self.place
        spans = [place.home / f"spans-{run}-{number}.json" for number in range(WORKERS)]
        with place.crew(self.module, workers=WORKERS, slots=self.slots, spans=spans, **self.orders) as crew:
            place.submit(bulk, jobs=self.jobs, each=IMAGES_EACH)
            for statement in ("ANALYZE jobs, generations, operations", "CHECKPOINT"):
                place.observed.run(statement)
            watch, small_jobs = self._bulk(crew, run, bulk=bulk, small=small)
            for _ in range(IDLE_JOBS):
                self._submit_and_wait(crew, alone)
            crew.tell("end")
            for member in crew.members:
                member.expect("done", seconds=END_SECONDS)
        self.loaded[run], self.idle[run] = (self._delays(org_id) for org_id in (small, alone))
        operations = self.operations + small_jobs + IDLE_JOBS
        self.in_flight[run], sent = working.most_in_flight(spans)
        audit.check("operations sent", found=sent, expected=operations)
        if self.in_flight[run] > LIMIT:
            audit.check("most in flight", found=self.in_flight[run], expected=f"at most {LIMIT}")
        place.check([bulk, small, alone], operations=operations)
        return watch

    def _bulk(self, crew: Crew, run: str, *, bulk: str, small: str) -> tuple[Stopwatch, int]:
        ask = self.place.observed.ask
        watch, over = Stopwatch(), threading.Event()
        submitted: list[str] = []

        def submit_small() -> None:
            while not over.wait(random.uniform(*APART_SECONDS)):
                self.place.submit(small, jobs=1, each=1)
                submitted.append(small)

        beside = threading.Thread(target=submit_small)
        before = working.cpu_of_postgres(self.place.observed)
        watch.start(crew)
        began = float(ask(_NOW))
        crew.tell("go")
        beside.start()
        try:
            # The rows say when that was: asking more often would only take from the two cores.
            wait_until(
                partial(ask, _DONE, bulk),
                child=crew,
                seconds=END_SECONDS,
                what="the end of the bulk order",
                every_seconds=0.05,
            )
        finally:
            over.set()
            beside.join()
        watch.stop()
        self.postgres_cpu[run] = working.cpu_of_postgres(self.place.observed) - before
        self.makespans[run] = float(ask(_LAST_END, bulk)) - began
        self._wait_for(crew, small)
        return watch, len(submitted)

    def _submit_and_wait(self, crew: Crew, org_id: str) -> None:
        time.sleep(random.uniform(0.1, 0.3))
        self.place.submit(org_id, jobs=1, each=1)
        self._wait_for(crew, org_id)

    def _wait_for(self, crew: Crew, org_id: str) -> None:
        done = partial(self.place.observed.ask, _DONE, org_id)
        wait_until(done, child=crew, seconds=END_SECONDS, what="the end of a small organization's jobs")

    def _delays(self, org_id: str) -> list[float]:
        return list(self.place.observed.ask(_DELAYS.format(begun=self.begun), org_id) or [])


def run(*, rounds: int, full: bool) -> bool:
    """Run it; tell whether every target was reached."""
    fewer = JOBS if full else JOBS_OF_THE_SLOW
    logs.configure(process="benchmark", level="WARNING")
    with working.places(limit=LIMIT, seconds=SECONDS) as (ours, singly, usual):
        ways = [
            Way(name=OURS, module="engine_worker", place=ours, slots=SLOTS, jobs=JOBS, orders=_of_engine("gathered")),
            Way(name=SINGLY, module="engine_worker", place=singly, slots=SLOTS, jobs=fewer, orders=_of_engine("alone")),
            Way(name=ORM, module="orm_worker", place=usual, slots=LIMIT // WORKERS, jobs=fewer, begun="started_at"),
        ]
        machine.wait_until_quiet()
        print(
            f"\n   {JOBS} jobs of {IMAGES_EACH} images, provider {SECONDS * 1000:g} ms, {LIMIT} at once,"
            f" {WORKERS} worker processes of {SLOTS} slots; an event is an operation"
        )
        contenders = [Contender(name=way.name, events=way.operations, run=way.round) for way in ways]
        done = report.run_in_turn(contenders, rounds=rounds)
        met = report.judge(done, TARGETS)
        report.write_csv("engine", done)
        report.write_rows("engine-rounds", [row for way in ways for row in _rows(way)])
        return _judge(ways) and met


def _of_engine(way: str) -> dict[str, object]:
    # An organization may use the whole provider while nobody else wants it: turns are what keeps it open for others.
    return {"way": way, "per_organization": 2 * LIMIT}


def _judge(ways: Sequence[Way]) -> bool:
    """Print what each came to; tell whether ours is fast enough, and the small organization served soon enough."""
    titles = f"{'makespan : ideal':>26} {'in flight':>10} {'small delay ms, idle':>22} {'loaded':>8} {'max':>8}"
    print(f"\n   {'':<26} {titles}")
    for way in ways:
        spans = [way.makespans[run] / way.ideal_seconds for run in _measured(way)]
        idle, loaded = _delays(way.idle, way), _delays(way.loaded, way)
        print(
            f"   {way.name:<26} {statistics.median(spans):>10.2f} ({min(spans):>5.2f}-{max(spans):>5.2f})"
            f" {max(way.in_flight.values()):>12} {_ms(idle):>22.0f} {_ms(loaded):>8.0f}"
            f" {max(loaded, default=0) * 1000:>8.0f}"
        )
    ours = ways[0]
    of_postgres = statistics.median(ours.postgres_cpu[run] for run in _measured(ours))
    print(f"   PostgreSQL took {of_postgres / ours.operations * 1e6:.0f} us of processor time for an operation of ours")
    makespan = statistics.median(ours.makespans[run] for run in _measured(ours)) / ours.ideal_seconds
    idle, loaded = _delays(ours.idle, ours), _delays(ours.loaded, ours)
    delay = statistics.median(loaded) / statistics.median(idle)
    return all(
        [
            _verdict("makespan : ideal", makespan, at_most=MAKESPAN_AT_MOST),
            _verdict("small organization's delay, loaded : idle", delay, at_most=DELAY_AT_MOST),
        ]
    )


def _verdict(title: str, found: float, *, at_most: float) -> bool:
    print(f"   {title:<42} {found:>9.2f} {'':>19}   <= {at_most:g}   {'PASS' if found <= at_most else 'MISS'}")
    return found <= at_most


def _rows(way: Way) -> list[dict[str, object]]:
    return [
        {
            "round": run,
            "contender": way.name,
            "makespan_seconds": way.makespans[run],
            "most_in_flight": way.in_flight[run],
            "postgres_cpu_seconds": way.postgres_cpu[run],
            "idle_delays_ms": json.dumps([round(each * 1000, 1) for each in way.idle[run]]),
            "loaded_delays_ms": json.dumps([round(each * 1000, 1) for each in way.loaded[run]]),
        }
        for run in way.makespans
    ]


def _measured(way: Way) -> list[str]:
    """Return the names of the rounds that count: the first was the warm-up."""
    return list(way.makespans)[1:]


def _delays(by_round: dict[str, list[float]], way: Way) -> list[float]:
    return [each for run in _measured(way) for each in by_round[run]]


def _ms(delays: Sequence[float]) -> float:
    return statistics.median(delays) * 1000 if delays else 0.0
