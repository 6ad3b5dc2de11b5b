"""How long one event takes from its transaction to a consumer while nothing else happens.

Each event carries the monotonic time at which it was handed to the outbox, before the commit; the consumer, another
process on the same machine, compares it with its own on arrival. So INSERT, COMMIT and delivery are in the figure.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import psutil

from benchmarks import audit, children, machine, report
from benchmarks.servers import Servers
from shared import broker

EVENTS_PER_SECOND = 20
SECONDS, SECONDS_FULL = 10, 30
TARGETS_MILLISECONDS = {0.5: 5.0, 0.99: 20.0}


class _Data(msgspec.Struct):
    reservation_id: str


class _Envelope(msgspec.Struct):
    id: str
    data: _Data


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One event's way, a row of the CSV; round 0 is the warm-up."""

    round: int
    contender: str
    milliseconds: float
    machine_cpu_percent: float


def run(started: Servers, *, queues: Mapping[str, str], rounds: int, full: bool) -> bool:
    """Measure in turn after a warm-up round; print the table, write the CSV, tell whether the targets were met.

    Args:
        started: the servers.
        queues: the contenders' programs, ours first, and the queue each one's events end in.
        rounds: how many are measured.
        full: longer rounds.
    """
    print(f"\n   idle: {EVENTS_PER_SECOND} events/s at random moments, from before the commit to a consumer")
    machine.wait_until_quiet()
    samples: list[Sample] = []
    for number in range(rounds + 1):
        for module, queue in queues.items():
            taken = _round(started, module, queue=queue, number=number, full=full)
            samples += taken
            title = f"round {number}/{rounds}" if number else "warm-up  "
            print(
                f"   {title}  {module:<24} {len(taken):>6,} events   {_summary(taken)}   audit ok"
                f"   machine {taken[0].machine_cpu_percent:.0f}% busy",
                flush=True,
            )
    met = _judge([sample for sample in samples if sample.round], ours=next(iter(queues)))
    report.write_rows("outbox-idle", [asdict(sample) for sample in samples])
    return met


def _round(started: Servers, module: str, *, queue: str, number: int, full: bool) -> list[Sample]:
    """Let the writer commit events with the contender at work; audit; return how long each event took."""
    count = EVENTS_PER_SECOND * (SECONDS_FULL if full else SECONDS)
    folder, addresses = started.log_folder, started.addresses()
    orders = {"run": f"{module}_{number}", "count": count, "per_second": EVENTS_PER_SECOND}
    with (
        broker.connected(started.amqp_url, name="benchmark consumer") as connection,
        children.running(f"benchmarks.contenders.{module}", log_folder=folder, keep_on=True, **addresses) as relay,
        children.running("benchmarks.contenders.idle_writer", log_folder=folder, **addresses, **orders) as writer,
    ):
        if module == "raw_relay":
            relay.tell("go")
        writer.tell("go")
        psutil.cpu_percent()
        arrived = list(_arrivals(connection, queue, count=count, seconds=count / EVENTS_PER_SECOND * 2 + 10))
        busy = psutil.cpu_percent()
        writer.expect("done", seconds=10)
    audit.check("distinct events that arrived", found=len({event_id for event_id, _ in arrived}), expected=count)
    audit.check("further events in the queue", found=audit.message_count(started.amqp_url, queue), expected=0)
    audit.check("events left in the outbox", found=started.ask("SELECT count(*) FROM outbox"), expected=0)
    return [
        Sample(round=number, contender=module, milliseconds=milliseconds, machine_cpu_percent=busy)
        for _, milliseconds in arrived
    ]


def _arrivals(connection: Any, queue: str, *, count: int, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield id and age in milliseconds of each event, as of its arrival."""
    decoder = msgspec.json.Decoder(_Envelope)
    messages: list[tuple[int, Any]] = []
    channel = connection.channel()
    channel.basic_consume(queue, no_ack=True, callback=lambda message: messages.append((time.monotonic_ns(), message)))
    deadline = time.monotonic() + seconds
    while len(messages) < count and (left := deadline - time.monotonic()) > 0:
        broker.read_events(connection, seconds=left)
    for arrived_at, message in messages:
        envelope = decoder.decode(message.body)
        yield envelope.id, (arrived_at - int(envelope.data.reservation_id)) / 1e6


def _judge(samples: list[Sample], *, ours: str) -> bool:
    by_contender: dict[str, list[float]] = {}
    for sample in samples:
        by_contender.setdefault(sample.contender, []).append(sample.milliseconds)
    print(f"\n   {'idle latency, ms':<42} {'p50':>9} {'p95':>9} {'p99':>9} {'max':>9}")
    for name, taken in by_contender.items():
        print(f"   {name:<42} " + " ".join(f"{percentile(taken, share):>9.2f}" for share in (0.5, 0.95, 0.99, 1)))
    met = []
    for share, at_most in TARGETS_MILLISECONDS.items():
        value = percentile(by_contender[ours], share)
        met.append(value <= at_most)
        print(f"   {f'{ours}, p{share * 100:g}':<42} {value:>9.2f}   <= {at_most:g}   {'PASS' if met[-1] else 'MISS'}")
    return all(met)


def _summary(samples: list[Sample]) -> str:
    taken = [sample.milliseconds for sample in samples]
    return f"p50 {statistics.median(taken):6.2f} ms  p99 {percentile(taken, 0.99):6.2f} ms"


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of all do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(share * 10_000) * len(ranked) // 10_000) - 1)]
