"""P5, the outbox: how fast a backlog leaves it, against nameko's dispatcher and a raw script; how soon one event."""

from functools import partial

from benchmarks import audit, children, idle, report, samples, servers
from benchmarks.report import Contender, Stopwatch, Target
from benchmarks.servers import QUORUM, Servers

# nameko's time for an event does not depend on how many there are; with fewer, its rounds last as long as the others.
EVENTS, DISPATCHED = 50_000, 5_000
EVENTS_FULL = 50_000
ROUND_SECONDS = 120.0

TARGETS = (Target(than="nameko dispatcher", at_least=8.0), Target(than="raw relay", at_least=0.6))

# Where each contender's events go: an exchange of its own, and behind it a quorum queue of its own.
RELAY, NAMEKO, RAW = "credits.events", "nameko.events", "raw.events"


def run(*, rounds: int, full: bool) -> bool:
    """Run the drain and the idle latency; tell whether every target was reached."""
    with servers.started() as started:
        _declare(started)
        drained = report.run_in_turn(_contenders(started, full=full), rounds=rounds)
        met = report.judge(drained, TARGETS)
        report.write_csv("outbox-drain", drained)
        prompt = idle.run(
            started, queues={"relay": queue_of(RELAY), "raw_relay": queue_of(RAW)}, rounds=rounds, full=full
        )
    return met and prompt


def queue_of(exchange: str) -> str:
    """Return the name of the queue behind a contender's exchange."""
    return f"bench.{exchange}"


def _contenders(started: Servers, *, full: bool) -> list[Contender]:
    many, few = (EVENTS_FULL, EVENTS_FULL) if full else (EVENTS, DISPATCHED)
    return [
        Contender(name="relay", events=many, run=partial(_relay, started, count=many)),
        Contender(name="nameko dispatcher", events=few, run=partial(_nameko_dispatcher, started, count=few)),
        Contender(name="raw relay", events=many, run=partial(_raw_relay, started, count=many)),
    ]


def _declare(started: Servers) -> None:
    with started.channel() as channel:
        for exchange in (RELAY, NAMEKO, RAW):
            if exchange != RELAY:
                channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
            channel.queue_declare(queue_of(exchange), durable=True, auto_delete=False, arguments=QUORUM)
            channel.queue_bind(queue_of(exchange), exchange, "CreditCaptured")


def _relay(started: Servers, run: str, *, count: int) -> Stopwatch:
    """Run ours: it stands by; the clock runs from the commit of the backlog until the outbox is empty."""
    watch = Stopwatch()
    with children.running("benchmarks.contenders.relay", log_folder=started.log_folder, **started.addresses()) as child:
        started.run("CHECKPOINT")
        with started.database.transaction(time_limit_seconds=60) as session:
            started.database.publish(session, samples.captured(run, count=count))
            watch.start(child)
        children.wait_until(
            lambda: _is_empty(started), child=child, seconds=ROUND_SECONDS, what="the relay draining the outbox"
        )
        watch.stop()
    _audit(started, RELAY, run=run, count=count)
    return watch


def _raw_relay(started: Servers, run: str, *, count: int) -> Stopwatch:
    """Run the script: connected and waiting; the clock runs from `go` until the outbox is empty."""
    with started.database.transaction(time_limit_seconds=60) as session:
        started.database.publish(session, samples.captured(run, count=count))
    watch = _go_until_done(started, "benchmarks.contenders.raw_relay")
    _audit(started, RAW, run=run, count=count)
    return watch


def _nameko_dispatcher(started: Servers, run: str, *, count: int) -> Stopwatch:
    """Run nameko's dispatcher: it has no outbox, so the clock runs over the publishing alone."""
    watch = _go_until_done(started, "benchmarks.contenders.nameko_dispatcher", run=run, count=count)
    _audit(started, NAMEKO, run=run, count=count)
    return watch


def _go_until_done(started: Servers, module: str, **orders: object) -> Stopwatch:
    watch = Stopwatch()
    with children.running(module, log_folder=started.log_folder, **started.addresses(), **orders) as child:
        started.run("CHECKPOINT")
        watch.start(child)
        child.tell("go")
        child.expect("done", seconds=ROUND_SECONDS)
        watch.stop()
    return watch


def _is_empty(started: Servers) -> bool:
    return bool(started.ask("SELECT NOT EXISTS (SELECT FROM outbox)"))


def _audit(started: Servers, exchange: str, *, run: str, count: int) -> None:
    audit.check("events left in the outbox", found=started.ask("SELECT count(*) FROM outbox"), expected=0)
    audit.check_queue(started.amqp_url, queue_of(exchange), run=run, count=count)
    started.run("VACUUM outbox")
