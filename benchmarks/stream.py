"""Server-sent events: from a service's commit to 1,000 clients of 100 organizations, on one process of the gateway.

An event goes the whole way: outbox and relay of the service that tells it, the log of notifications, its outbox and
relay, the gateway. Each carries the monotonic time before its commit; clients on the same machine compare theirs.
"""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from benchmarks import children, followers, machine, report, stream_churn, stream_kill
from benchmarks.growth import Readings
from benchmarks.idle import percentile
from benchmarks.stream_place import ORGANIZATIONS, Place, followers_of, placed
from benchmarks.stream_rounds import Round, Sample, measured

CLIENTS = 1_000
LOADED_PER_SECOND, LOADED_SECONDS, LOADED_SECONDS_FULL = 100, 10, 60
IDLE_PER_SECOND, IDLE_EVENTS, IDLE_ORGANIZATIONS = 5, 50, 5
CHURN_SECONDS, CHURN_SECONDS_FULL = 75, 300
LOADED_P95_MS, IDLE_P95_MS = 500.0, 100.0
GROWTH_AT_MOST = 0.10


def run(*, rounds: int, full: bool) -> bool:
    """Run it under load and idle, and kill the gateway in the end; tell whether every target was reached."""
    seconds = LOADED_SECONDS_FULL if full else LOADED_SECONDS
    with placed() as place, contextlib.ExitStack() as relaying:
        relay = partial(children.running, "benchmarks.contenders.relay", log_folder=place.started.log_folder)
        relaying.enter_context(relay(keep_on=True, **place.started.addresses()))
        machine.wait_until_quiet()
        print(
            f"\n   {CLIENTS} clients of {ORGANIZATIONS} organizations, {LOADED_PER_SECOND} events/s in all; then idle"
        )
        loaded = Readings(place.gateway_rss)
        samples_of, done = _measured(place, loaded, rounds=rounds, count=LOADED_PER_SECOND * seconds)
        report.write_rows("stream", [asdict(each) for each in done])
        report.write_rows("stream-latency", [asdict(each) for each in samples_of])
        churned = stream_churn.growth(place, seconds=CHURN_SECONDS_FULL if full else CHURN_SECONDS)
        met = _judge(
            [each for each in samples_of if each.round],
            [each for each in done if each.round],
            growth={"loaded": loaded.growth(), "while streams come and go": churned},
        )
        stream_kill.survives(place, clients=CLIENTS, per_second=LOADED_PER_SECOND, seconds=LOADED_SECONDS)
        return met


def _measured(place: Place, memory: Readings, *, rounds: int, count: int) -> tuple[list[Sample], list[Round]]:
    """Let all clients stay through all rounds of load, and then a few through all that are idle."""
    taken: list[Sample] = []
    done: list[Round] = []
    with followers.crowd(place.port, followers_of(place, place.accounts, CLIENTS)) as crowd:
        for number in range(rounds + 1):
            made, arrivals = measured(
                place,
                crowd,
                number=number,
                load="loaded",
                count=count,
                per_second=LOADED_PER_SECOND,
                memory=memory if number else None,
            )
            done.append(made)
            taken += [Sample(round=number, load="loaded", milliseconds=each.milliseconds) for each in arrivals]
    alone = place.accounts[:IDLE_ORGANIZATIONS]
    with followers.crowd(place.port, followers_of(place, alone, len(alone))) as crowd:
        for number in range(rounds + 1):
            made, arrivals = measured(
                place, crowd, number=number, load="idle", count=IDLE_EVENTS, per_second=IDLE_PER_SECOND
            )
            done.append(made)
            taken += [Sample(round=number, load="idle", milliseconds=each.milliseconds) for each in arrivals]
    return taken, done


def _judge(taken: Sequence[Sample], done: Sequence[Round], *, growth: Mapping[str, float]) -> bool:
    print(f"\n   {'commit to client, ms, all rounds together':<42} {'p50':>9} {'p95':>9} {'p99':>9} {'max':>9}")
    p95 = {}
    for load in ("loaded", "idle"):
        values = [each.milliseconds for each in taken if each.load == load]
        p95[load] = percentile(values, 0.95)
        print(f"   {load:<42} " + " ".join(f"{percentile(values, share):>9.2f}" for share in (0.5, 0.95, 0.99, 1)))
    loaded = [each for each in done if each.load == "loaded"]
    print(
        f"   loaded, medians of rounds: gateway {statistics.median(each.gateway_cpu for each in loaded):.0%} of a core,"
        f" notifications {statistics.median(each.notifications_cpu for each in loaded):.0%},"
        f" load generator {statistics.median(each.generator_cpu for each in loaded):.0%}"
    )
    print(f"\n   {'target':<42} {'measured':>9}")
    return all(
        [
            _verdict(f"p95, {CLIENTS} clients, {LOADED_PER_SECOND} events/s, ms", p95["loaded"], at_most=LOADED_P95_MS),
            _verdict("p95, idle, ms", p95["idle"], at_most=IDLE_P95_MS),
            *(_verdict(f"growth of memory, {when}", each, at_most=GROWTH_AT_MOST) for when, each in growth.items()),
        ]
    )


def _verdict(title: str, value: float, *, at_most: float) -> bool:
    print(f"   {title:<50} {value:>9.2f}   <= {at_most:g}   {'PASS' if value <= at_most else 'MISS'}")
    return value <= at_most
