"""Server-sent events: from a service's commit to 1,000 clients of 100 organizations, on one process of the gateway.

An event goes the whole way: outbox and relay of the service that tells it, the log of notifications, its outbox and
relay, the gateway. Each carries the monotonic time before its commit; clients on the same machine compare theirs.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks import audit, children, followers, machine, report, samples, servers, stacks
from benchmarks.children import wait_until
from benchmarks.followers import Arrival, Crowd, Follower
from benchmarks.idle import percentile
from benchmarks.servers import Observed, Servers
from benchmarks.stacks import Program, Stack
from deploy.local import ports
from deploy.local.environment import ops_setting
from services.gateway import keys, organizations
from services.gateway.organizations import NewOrganization
from shared import logs, migrations
from shared.database import Database
from shared.ids import new_id

ORGANIZATIONS, CLIENTS = 100, 1_000
LOADED_PER_SECOND, LOADED_SECONDS, LOADED_SECONDS_FULL = 100, 10, 60
IDLE_PER_SECOND, IDLE_EVENTS, IDLE_ORGANIZATIONS = 5, 50, 5
LOADED_P95_MS, IDLE_P95_MS = 500.0, 100.0
GROWTH_AT_MOST = 0.10
BACK_SECONDS = 60.0
READY_SECONDS = 60.0
SERVICES = ("notifications", "gateway")


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


@dataclass(kw_only=True)
class Place:
    """A gateway and notifications that run, with their databases, and organizations with a key each."""

    started: Servers
    databases: dict[str, Observed]
    programs: dict[str, Program]
    port: int
    running: dict[str, Stack]
    accounts: list[tuple[str, str]]

    def process(self, name: str) -> psutil.Process:
        """Return one of our processes."""
        return psutil.Process(self.running[name].processes[name].pid)

    def cpu_seconds(self, name: str) -> float:
        """Return what one of them has used so far."""
        return self.running[name].cpu_seconds()


def run(*, rounds: int, full: bool) -> bool:
    """Run it under load and idle, and kill the gateway in the end; tell whether every target was reached."""
    seconds = LOADED_SECONDS_FULL if full else LOADED_SECONDS
    with _placed() as place, contextlib.ExitStack() as relaying:
        relay = partial(children.running, "benchmarks.contenders.relay", log_folder=place.started.log_folder)
        relaying.enter_context(relay(keep_on=True, **place.started.addresses()))
        machine.wait_until_quiet()
        print(
            f"\n   {CLIENTS} clients of {ORGANIZATIONS} organizations, {LOADED_PER_SECOND} events/s in all; then idle"
        )
        samples_of, done = _measured(place, rounds=rounds, count=LOADED_PER_SECOND * seconds)
        report.write_rows("stream", [asdict(each) for each in done])
        report.write_rows("stream-latency", [asdict(each) for each in samples_of])
        met = _judge([each for each in samples_of if each.round], [each for each in done if each.round])
        return _survives(place) and met


def _measured(place: Place, *, rounds: int, count: int) -> tuple[list[Sample], list[Round]]:
    """Let all clients stay through all rounds of load, so that memory shows; each idle round has clients of its own."""
    taken: list[Sample] = []
    done: list[Round] = []
    with followers.crowd(place.port, _followers(place, place.accounts, CLIENTS)) as crowd:
        for number in range(rounds + 1):
            made, arrivals = _round(
                place, crowd, number=number, load="loaded", count=count, per_second=LOADED_PER_SECOND
            )
            done.append(made)
            taken += [Sample(round=number, load="loaded", milliseconds=each.milliseconds) for each in arrivals]
    alone = place.accounts[:IDLE_ORGANIZATIONS]
    with followers.crowd(place.port, _followers(place, alone, len(alone))) as crowd:
        for number in range(rounds + 1):
            made, arrivals = _round(
                place, crowd, number=number, load="idle", count=IDLE_EVENTS, per_second=IDLE_PER_SECOND
            )
            done.append(made)
            taken += [Sample(round=number, load="idle", milliseconds=each.milliseconds) for each in arrivals]
    return taken, done


def _round(
    place: Place, crowd: Crowd, *, number: int, load: str, count: int, per_second: int
) -> tuple[Round, list[Arrival]]:
    """Let a writer commit events, wait until all have come, audit, and return what it took."""
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
        crowd.listen(
            lambda: crowd.heard() >= expected or time.monotonic() - began > enough, seconds=enough + 5, what=name
        )
        took = time.monotonic() - began
        generator = (time.process_time() - generator) / took
        used = {each: (place.cpu_seconds(each) - before[each]) / took for each in SERVICES}
        busy = psutil.cpu_percent()
        writer.expect("done", seconds=10)
    arrivals = _audited(place, crowd, marks, run=name, count=count, org_ids=org_ids)
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
        gateway_rss=place.process("gateway").memory_info().rss,
    )
    _tell(made)
    return made, arrivals


def _audited(
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


def _judge(taken: Sequence[Sample], done: Sequence[Round]) -> bool:
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
    growth = loaded[-1].gateway_rss / loaded[0].gateway_rss - 1
    print(f"\n   {'target':<42} {'measured':>9}")
    return all(
        [
            _verdict(f"p95, {CLIENTS} clients, {LOADED_PER_SECOND} events/s, ms", p95["loaded"], at_most=LOADED_P95_MS),
            _verdict("p95, idle, ms", p95["idle"], at_most=IDLE_P95_MS),
            _verdict("growth of the gateway's memory, first to last", growth, at_most=GROWTH_AT_MOST),
        ]
    )


def _verdict(title: str, value: float, *, at_most: float) -> bool:
    print(f"   {title:<50} {value:>9.2f}   <= {at_most:g}   {'PASS' if value <= at_most else 'MISS'}")
    return value <= at_most


def _survives(place: Place) -> bool:
    """Kill the gateway while events flow; every client comes back by itself, has all, and nothing twice."""
    count = LOADED_PER_SECOND * LOADED_SECONDS
    org_ids = [org_id for org_id, _ in place.accounts]
    orders = {"run": "killed", "count": count, "per_second": LOADED_PER_SECOND, "org_ids": org_ids}
    with contextlib.ExitStack() as stack:
        clients = _followers(place, place.accounts, CLIENTS)
        crowd = stack.enter_context(followers.crowd(place.port, clients))
        writer = stack.enter_context(
            children.running(
                "benchmarks.contenders.idle_writer",
                log_folder=place.started.log_folder,
                **place.started.addresses(),
                **orders,
            )
        )
        writer.tell("go")
        begun = time.monotonic()
        crowd.listen(lambda: time.monotonic() - begun > LOADED_SECONDS / 3, seconds=60, what="a third of the time")
        before = sum(client.refused for client in clients)
        gateway = place.running["gateway"].processes["gateway"]
        gateway.kill()
        gateway.wait()
        killed = time.monotonic()
        restarted = stacks.running(
            "stream again",
            {"gateway": place.programs["gateway"]},
            port=place.port,
            log_folder=place.started.log_folder,
        )
        place.running["gateway"] = stack.enter_context(restarted)
        ready = time.monotonic()
        back = [0.0]

        def all_are_back() -> bool:
            if not back[0]:
                if all(client.reconnects and client.has_begun() for client in clients):
                    back[0] = time.monotonic()
                return False
            return min(client.read() for client in clients) >= count // len(org_ids)

        crowd.listen(all_are_back, seconds=BACK_SECONDS, what="every client to have everything after the gateway died")
        _audited(place, crowd, [0] * len(clients), run="killed", count=count, org_ids=org_ids)
        writer.expect("done", seconds=30)
        refused = sum(client.refused for client in clients) - before
        print(
            f"\n   gateway killed with {CLIENTS} streams open: ready after {ready - killed:.1f} s, all clients back"
            f" {back[0] - ready:.1f} s later; {refused} tries answered 503 on the way; nothing missed,"
            " nothing twice   audit ok"
        )
        place.running["gateway"].fail_if_gone()
    return True


def _followers(place: Place, accounts: Sequence[tuple[str, str]], count: int) -> list[Follower]:
    """Return so many clients, the organizations taking turns, who know what the log has so far."""
    ask = partial(place.databases["notifications"].ask, "SELECT last FROM event_sequences WHERE org_id = %s")
    known = {org_id: ask(org_id) for org_id, _ in accounts}
    return [
        Follower(org_id=org_id, api_key=api_key, last=known[org_id])
        for org_id, api_key in (accounts[number % len(accounts)] for number in range(count))
    ]


@contextlib.contextmanager
def _placed() -> Iterator[Place]:
    """Start the servers, notifications and the gateway, and make organizations that know a key each."""
    with contextlib.ExitStack() as stack:
        started = stack.enter_context(servers.started())
        logs.configure(process="benchmark", level="WARNING")
        stacks.run_tool("topology", {"AMQP_URL": started.amqp_url})
        home = started.log_folder
        databases = {
            service: stack.enter_context(servers.database_made(started.postgres, f"stream_{service}"))
            for service in SERVICES
        }
        for service, database in databases.items():
            migrations.upgrade(service, url=database.database_url)
        port, *ops = ports.pick_several(1 + len(SERVICES))
        settings = _settings(started, databases, home=home, port=port, ops=dict(zip(SERVICES, ops, strict=True)))
        programs = {
            service: Program(arguments=["-m", "shared.runner", service], variables=settings, ready_port=ops[place_of])
            for place_of, service in enumerate(SERVICES)
        }
        running = {
            service: stack.enter_context(
                stacks.running(f"stream {service}", {service: programs[service]}, port=port, log_folder=home)
            )
            for service in SERVICES
        }
        accounts = _accounts(databases["gateway"].database_url)
        wait_until(
            lambda: databases["notifications"].ask("SELECT count(*) FROM event_sequences") == ORGANIZATIONS,
            child=running["notifications"],
            seconds=READY_SECONDS,
            what="every organization to have a log",
        )
        yield Place(
            started=started,
            databases=databases,
            programs=programs,
            port=port,
            running=running,
            accounts=accounts,
        )


def _settings(
    started: Servers, databases: dict[str, Observed], *, home: Path, port: int, ops: dict[str, int]
) -> dict[str, str]:
    return {
        **stacks.SETTINGS,
        "AMQP_URL": started.amqp_url,
        "RATE_LIMIT_ADDRESS": "",  # every client is at one address here
        "STORAGE_URL": (home / "store").as_uri(),
        "GATEWAY_ADDRESS": f"127.0.0.1:{port}",
        **{ops_setting(service): f"127.0.0.1:{number}" for service, number in ops.items()},
        **{f"{service.upper()}_DATABASE_URL": database.database_url for service, database in databases.items()},
    }


def _accounts(url: str) -> list[tuple[str, str]]:
    """Return the id and the first key of organizations that are made here, and tell nobody."""
    database = Database(url, application="benchmark")
    made: list[tuple[str, str]] = []
    for _ in range(ORGANIZATIONS):
        org_id = new_id("org")
        secret = keys.of_request(signing_secret=stacks.SETTINGS["SIGNING_SECRET"], made_id=org_id, request_key=None)
        wanted = NewOrganization(id=org_id, name="Benchmark", created_by="root", plan="pro", owner_email=None)
        organizations.create(database, wanted, secret=secret)
        made.append((org_id, secret.text))
    database.engine.dispose()
    return made
