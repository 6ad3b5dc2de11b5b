"""P6, the inbox: how fast a full queue is worked off, against nameko's own handler and a raw script in batches.

The work is one row updated for each event. The clock runs from `go`, connecting included, until every row is updated.
"""

from collections.abc import Callable
from functools import partial

from benchmarks import audit, children, report, samples, servers
from benchmarks.report import Contender, Stopwatch, Target
from benchmarks.servers import QUORUM, SERVICE, Servers
from shared import broker, topology
from shared.broker import Outgoing, Publisher
from shared.events import CreditCaptured

# nameko's time for an event does not depend on how many there are; with fewer, its rounds last as long as the others.
EVENTS, HANDLED_SINGLY = 40_000, 5_000
EVENTS_FULL = 50_000
PUBLISHED_AT_ONCE = 1_000
ROUND_SECONDS = 120.0

TARGETS = (Target(than="nameko event_handler", at_least=4.0), Target(than="raw batches", at_least=0.25))

OURS = topology.binding(SERVICE, "on_credit_captured", CreditCaptured)
NAMEKO_QUEUE = "evt-nameko-CreditCaptured--captures.on_credit_captured"
RAW_QUEUE = "raw.captures"


def run(*, rounds: int, full: bool) -> bool:
    """Run the drain; tell whether both targets were reached."""
    with servers.started() as started:
        with started.channel() as channel:
            topology.declare_binding(channel, OURS)
            for queue in (NAMEKO_QUEUE, RAW_QUEUE):
                channel.queue_declare(queue, durable=True, auto_delete=False, arguments=QUORUM)
        drained = report.run_in_turn(_contenders(started, full=full), rounds=rounds)
        met = report.judge(drained, TARGETS)
        report.write_csv("inbox-drain", drained)
    return met


def _contenders(started: Servers, *, full: bool) -> list[Contender]:
    many, few = (EVENTS_FULL, EVENTS_FULL) if full else (EVENTS, HANDLED_SINGLY)
    ways: list[tuple[str, int, Callable[..., Stopwatch]]] = [
        ("subscribe + once", many, partial(_drain, module="subscriber", queue=OURS.queue, inbox=many)),
        ("nameko event_handler", few, partial(_drain, module="nameko_handler", queue=NAMEKO_QUEUE, inbox=0)),
        ("raw batches", many, partial(_drain, module="raw_batches", queue=RAW_QUEUE, inbox=many)),
    ]
    return [Contender(name=name, events=count, run=partial(way, started, count=count)) for name, count, way in ways]


def _drain(started: Servers, run: str, *, module: str, queue: str, count: int, inbox: int) -> Stopwatch:
    """Fill ``queue``, let the contender loose on it, audit; ``inbox`` is how many rows it must leave there."""
    _fill(started, queue=queue, run=run, count=count)
    watch = Stopwatch()
    with children.running(
        f"benchmarks.contenders.{module}",
        log_folder=started.log_folder,
        **started.addresses(),
        queue=queue,
        count=count,
    ) as child:
        watch.start(child)
        child.tell("go")
        children.wait_until(
            lambda: _is_done(started, count=count),
            child=child,
            seconds=ROUND_SECONDS,
            what=f"{module} draining {queue}",
        )
        watch.stop()
    # It has ended in order by now: what it had not acknowledged is back in the queue.
    _audit(started, queue=queue, count=count, inbox=inbox)
    return watch


def _fill(started: Servers, *, queue: str, run: str, count: int) -> None:
    started.run("TRUNCATE lines, inbox")
    started.run(
        "INSERT INTO lines SELECT line_id, 'held', 0 FROM unnest(%s) AS line_id",
        [samples.line_id(number) for number in range(count)],
    )
    started.run("VACUUM ANALYZE lines")
    # nameko reads no other content type than this; ours knows it too.
    messages = [
        Outgoing(body=body, exchange="", routing_key=queue, content_type="application/json")
        for body in samples.bodies(run, count=count)
    ]
    with broker.connected(started.amqp_url, name="benchmark") as connection:
        publisher = Publisher(connection)
        for first in range(0, count, PUBLISHED_AT_ONCE):
            publisher.publish(messages[first : first + PUBLISHED_AT_ONCE])
    audit.check("messages in the queue before the round", found=_ready(started, queue), expected=count)
    started.run("CHECKPOINT")


def _is_done(started: Servers, *, count: int) -> bool:
    """Tell whether every line is updated; looks at the last one first, since counting all costs the contender."""
    last = started.ask("SELECT times FROM lines WHERE line_id = %s", samples.line_id(count - 1))
    return bool(last and _updated(started) == count)


def _updated(started: Servers) -> int:
    return int(started.ask("SELECT count(*) FROM lines WHERE times > 0"))


def _ready(started: Servers, queue: str) -> int:
    return audit.message_count(started.amqp_url, queue)


def _audit(started: Servers, *, queue: str, count: int, inbox: int) -> None:
    effects = started.ask("SELECT sum(times) FROM lines WHERE times = 1 AND state = 'captured'")
    audit.check("lines updated exactly once", found=effects, expected=count)
    audit.check("rows in the inbox", found=started.ask("SELECT count(*) FROM inbox"), expected=inbox)
    audit.check("messages left in the queue", found=_ready(started, queue), expected=0)
    dead = topology.dead_letters_queue(SERVICE)
    audit.check("dead letters", found=_ready(started, dead), expected=0)
