"""One round of events to those who follow: written, waited for, audited, and what it took."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks import audit, children, samples
from benchmarks.follower import Arrival
from benchmarks.followers import Crowd
from benchmarks.growth import Readings
from benchmarks.idle import percentile
from benchmarks.stream_place import SERVICES, Place


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One event's way to one client, a row of the CSV; round 0 is the warm-up."""

    round: int
    load: str
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a round took: of processor time in shares of a core, of memory in bytes at its end."""

    round: int
    load: str
    deliveries: int
    p50: float
    p95: float
    p99: float
    gateway_cpu: float
    notifications_cpu: float
    generator_cpu: float
    machine_percent: float
    gateway_rss: int


def measured(
    place: Place,
    crowd: Crowd,
    *,
    number: int,
    load: str,
    count: int,
    per_second: int,
    memory: Readings | None = None,
) -> tuple[Round, list[Arrival]]:
    """Let a writer commit events, wait until all have come, audit, and return what it took.

    ``memory`` is read meanwhile.
    """
    org_ids = list(dict.fromkeys(follower.org_id for follower in crowd.followers))
    name = f"{load}_{number}"
    orders = {"run": name, "count": count, "per_second": per_second, "org_ids": org_ids}
    marks = [len(follower.arrivals) for follower in crowd.followers]
    expected = crowd.heard() + count // len(org_ids) * len(crowd.followers)
    enough = count / per_second * 1.5 + 2  # the audit waits for what comes later, or was counted too low
    with children.running(
        "benchmarks.contenders.idle_writer",
        log_folder=place.started.log_folder,
        **place.started.addresses(),
        **orders,
    ) as writer:
        before = {each: place.cpu_seconds(each) for each in SERVICES}
        psutil.cpu_percent()
        generator, began = time.process_time(), time.monotonic()
        writer.tell("go")

        def is_over() -> bool:
            if memory:
                memory.look()
            return crowd.heard() >= expected or time.monotonic() - began > enough

        crowd.listen(is_over, seconds=enough + 5, what=name)
        took = time.monotonic() - began
        generator = (time.process_time() - generator) / took
        used = {each: (place.cpu_seconds(each) - before[each]) / took for each in SERVICES}
        busy = psutil.cpu_percent()
        writer.expect("done", seconds=10)
    arrivals = audited(place, crowd, marks, run=name, count=count, org_ids=org_ids)
    milliseconds = [each.milliseconds for each in arrivals]
    made = Round(
        round=number,
        load=load,
        deliveries=len(arrivals),
        p50=statistics.median(milliseconds),
        p95=percentile(milliseconds, 0.95),
        p99=percentile(milliseconds, 0.99),
        gateway_cpu=used["gateway"],
        notifications_cpu=used["notifications"],
        generator_cpu=generator,
        machine_percent=busy,
        gateway_rss=place.gateway_rss(),
    )
    _tell(made)
    return made, arrivals


def audited(
    place: Place, crowd: Crowd, marks: Sequence[int], *, run: str, count: int, org_ids: Sequence[str]
) -> list[Arrival]:
    """Check that each client has each event of its organization once, in the order of the log, and nothing else.

    Events may share a piece, so that those that were counted are waited for here.
    """
    share = count // len(org_ids)
    # Read what has come before each look: what is still missing may be on its way.
    crowd.listen(
        lambda: min(follower.read() - mark for follower, mark in zip(crowd.followers, marks, strict=True)) >= share,
        seconds=30.0,
        what=f"each client to have all of {run}",
    )
    found: list[Arrival] = []
    for follower, mark in zip(crowd.followers, marks, strict=True):
        new = follower.arrivals[mark:]
        place_of = org_ids.index(follower.org_id)
        wanted = [samples.event_id(run, number) for number in range(place_of, count, len(org_ids))]
        audit.check(f"events of {run} to a client", found=sorted(each.event_id for each in new), expected=wanted)
        audit.check("whose they are", found={each.org_id for each in new}, expected={follower.org_id})
        numbers = [each.sequence for each in follower.arrivals]
        audit.check("numbers in order and none left out", found=numbers, expected=_from(numbers[0], len(numbers)))
        found += new
    statement = "SELECT count(*) FROM recorded_events WHERE event_id LIKE %s"
    logged = place.databases["notifications"].ask(statement, f"evt_{run}_%")
    audit.check("events in the log", found=logged, expected=count)
    return found


def _from(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def _tell(made: Round) -> None:
    title = f"round {made.round}" if made.round else "warm-up"
    print(
        f"   {title:<8} {made.load:<6} {made.deliveries:>7,} deliveries  p50 {made.p50:6.1f}  p95 {made.p95:6.1f}"
        f"  p99 {made.p99:6.1f} ms   gateway {made.gateway_cpu:4.0%} of a core, {made.gateway_rss >> 20} MiB,"
        f" notifications {made.notifications_cpu:4.0%}, generator {made.generator_cpu:4.0%},"
        f" machine {made.machine_percent:.0f}% busy   audit ok",
        flush=True,
    )
