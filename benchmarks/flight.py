"""P10, in flight: 1,000 operations of 20 to 40 s at an asynchronous provider, one worker process, webhooks and polling.

A webhook is played by the handler that takes it, in this process; one in twenty is lost, and polling finds what it was
about. Nobody holds anything meanwhile: operations are rows.
"""

import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import report, working
from benchmarks.children import ChildFailed, wait_until
from benchmarks.contenders.taking_provider import done_at
from benchmarks.working import Crew, OurPlace
from services.generation import handlers
from services.generation.engine import Engine
from shared import logs
from shared.database import Batch
from shared.events import ProviderCallbackReceived, correlated
from shared.ids import new_id

JOBS, IMAGES_EACH = 125, 8
SECONDS = 30.0
LIMIT, SLOTS = 2_000, 64
WINDOW_SECONDS = 15.0
LOST_PART = 0.05
END_SECONDS = 180.0
WEBHOOKS_EVERY_SECONDS = 0.05
MEGABYTE = 1e6
MEGABYTES_AT_MOST, QUERIES_AT_MOST, FOUND_WITHIN_SECONDS = 150.0, 1.0, 1.0

_TAKEN = "SELECT count(*) FROM operations WHERE org_id = %s AND external_id IS NOT NULL"
_HELD = """
SELECT count(*) FROM operations
WHERE org_id = %s AND status = 'running' AND external_id IS NOT NULL AND lease_until IS NOT NULL
"""
_DONE = "SELECT count(*) = 0 FROM jobs WHERE org_id = %s AND finished_at IS NULL"
_AT_PROVIDER = """
SELECT json_agg(json_build_object('id', id, 'external_id', external_id)) FROM operations
WHERE org_id = %s AND external_id IS NOT NULL
"""
_LATENESS = """
SELECT array_agg(
    CAST(extract(epoch FROM completed_at - sent_at) AS float) - CAST(split_part(external_id, ':', 2) AS float)
) FROM operations WHERE org_id = %s
"""


@dataclass(kw_only=True)
class Flight:
    """One round: what the worker took in memory, held and asked, and how late results were found."""

    operations: int = JOBS * IMAGES_EACH
    megabytes: list[float] = field(default_factory=list)
    peak_megabytes: float = 0.0
    held: list[int] = field(default_factory=list)
    queries_per_second: float = 0.0
    polls_per_second: float = 0.0
    late_seconds: list[float] = field(default_factory=list)
    lost_webhooks: int = 0


def run(*, rounds: int, full: bool) -> bool:  # noqa: ARG001  every round is the whole
    """Run it, once for three rounds asked for; tell whether every target was reached."""
    logs.configure(process="benchmark", level="WARNING")
    flights = []
    for number in range(max(1, rounds // 3)):
        with working.places(limit=LIMIT, seconds=SECONDS) as (place, _, _):
            flights.append(_flight(place, number))
    report.write_rows("flight", [_row(flight) for flight in flights])
    return _judge(flights)


def _flight(place: OurPlace, number: int) -> Flight:
    flight, org_id = Flight(), new_id("org")
    spans, counts = place.home / f"spans-{number}.json", place.home / f"counts-{number}.json"
    orders: dict[str, Any] = {"slots": SLOTS, "per_organization": LIMIT, "way": "gathered", "counts": str(counts)}
    with place.crew("flight_worker", workers=1, spans=[spans], **orders) as crew:
        crew.tell("go")
        # The first webhook tells that this provider's arrive.
        before = new_id("org")
        place.submit(before, jobs=1, each=1)
        _wait_until_taken(place, crew, before, 1)
        _bring_home(place, crew, before, Flight(), until_counted=0)
        place.submit(org_id, jobs=JOBS, each=IMAGES_EACH)
        _wait_until_taken(place, crew, org_id, flight.operations)
        window = (time.monotonic(), time.monotonic() + WINDOW_SECONDS)
        _bring_home(place, crew, org_id, flight, until_counted=window[1])
        crew.tell("end")
        crew.members[0].expect("done", seconds=END_SECONDS)
    _count(flight, counts, window)
    flight.late_seconds = list(place.observed.ask(_LATENESS, org_id))
    place.check([before, org_id], operations=flight.operations + 1)
    print(
        f"   {flight.operations:,} in flight: {max(flight.megabytes):.0f} MB (peak {flight.peak_megabytes:.0f}), held"
        f" {max(flight.held)}, {flight.queries_per_second:.1f} queries/s, {flight.polls_per_second:.0f} polls/s,"
        f" found after {statistics.median(flight.late_seconds):.2f} s (max {max(flight.late_seconds):.1f},"
        f" {flight.lost_webhooks} webhooks lost)   audit ok",
        flush=True,
    )
    return flight


def _wait_until_taken(place: OurPlace, crew: Crew, org_id: str, count: int) -> None:
    taken = partial(place.observed.ask, _TAKEN, org_id)
    wait_until(lambda: taken() == count, child=crew, seconds=END_SECONDS, what="all in flight")


def _bring_home(place: OurPlace, crew: Crew, org_id: str, flight: Flight, *, until_counted: float) -> None:
    """Call back as operations are done, look at the worker meanwhile, and return when all jobs have ended."""
    chance = random.Random(1)
    waiting = {each["id"]: done_at(each["external_id"]) for each in place.observed.ask(_AT_PROVIDER, org_id)}
    worker = psutil.Process(crew.members[0].pid)
    deadline = time.monotonic() + END_SECONDS
    while not place.observed.ask(_DONE, org_id):
        now = time.monotonic()
        done = [operation_id for operation_id, at in waiting.items() if at <= now]
        called = [operation_id for operation_id in done if chance.random() >= LOST_PART]
        flight.lost_webhooks += len(done) - len(called)
        for operation_id in done:
            del waiting[operation_id]
        _call_back(place, called)
        flight.megabytes.append(worker.memory_info().rss / MEGABYTE)
        if now < until_counted:
            flight.held.append(place.observed.ask(_HELD, org_id))
        crew.fail_if_gone()
        if now > deadline:
            raise ChildFailed("not all operations were brought home in time")
        time.sleep(WEBHOOKS_EVERY_SECONDS)
    flight.peak_megabytes = _peak_bytes(worker.pid) / MEGABYTE


def _call_back(place: OurPlace, operation_ids: Sequence[str]) -> None:
    if operation_ids:
        told = [
            ProviderCallbackReceived(
                meta=correlated(None), provider="slow", operation_id=each, delivery_id=new_id("evt")
            )
            for each in operation_ids
        ]
        consumer = "generation.on_provider_callback_received"
        nobody_else = Engine(providers={}, routes={})  # each webhook names its operation
        place.database.once(Batch(told, consumer=consumer), partial(handlers.ask_providers_now, engine=nobody_else))


def _count(flight: Flight, counts: Path, window: tuple[float, float]) -> None:
    found = json.loads(counts.read_text())
    began, ended = window
    within = {name: sum(began <= at < ended for at in times) for name, times in found.items()}
    flight.queries_per_second = within["queries"] / WINDOW_SECONDS
    flight.polls_per_second = within["polls"] / WINDOW_SECONDS


def _peak_bytes(pid: int) -> float:
    """Return the most memory a process has had, where the system tells."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1]) * 1024


def _judge(flights: Sequence[Flight]) -> bool:
    """Print each target with what was found; tell whether all were reached."""
    hundreds = JOBS * IMAGES_EACH / 100
    found = [
        ("resident memory of the worker, MB", max(max(one.megabytes) for one in flights), MEGABYTES_AT_MOST),
        ("peak, MB", max(one.peak_megabytes for one in flights), MEGABYTES_AT_MOST),
        ("operations held while in flight", max(max(one.held) for one in flights), 0),
        ("queries a second for 100 jobs", max(one.queries_per_second for one in flights) / hundreds, QUERIES_AT_MOST),
        (
            "result found after, median s",
            statistics.median(each for one in flights for each in one.late_seconds),
            FOUND_WITHIN_SECONDS,
        ),
    ]
    for title, value, at_most in found:
        print(f"   {title:<42} {value:>9.2f}   <= {at_most:g}   {'PASS' if value <= at_most else 'MISS'}")
    return all(value <= at_most for _, value, at_most in found)


def _row(flight: Flight) -> dict[str, object]:
    return {
        "operations": flight.operations,
        "resident_megabytes": max(flight.megabytes),
        "peak_megabytes": flight.peak_megabytes,
        "most_held": max(flight.held),
        "queries_per_second": flight.queries_per_second,
        "polls_per_second": flight.polls_per_second,
        "late_seconds_p50": statistics.median(flight.late_seconds),
        "late_seconds_max": max(flight.late_seconds),
        "lost_webhooks": flight.lost_webhooks,
    }
