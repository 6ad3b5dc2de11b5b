"""P3, the accept path: POST to 202 over HTTP, against ourselves with nothing gathered and against the usual way.

An event is a job taken in: key looked up, Idempotency-Key claimed, upload resolved, job written, credits held, answer
kept. The clock runs from the first request until the last answer.
"""

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks import accepting, audit, machine, posting, report, servers
from benchmarks.accepting import Account, Place
from benchmarks.posting import Posted
from benchmarks.report import Contender, Stopwatch, Target
from deploy.local.stack import start_rabbitmq
from shared import logs
from shared.ids import new_id

CONNECTIONS = 16
ORGANIZATIONS = 8
JOBS = {"many": 3_000, "few": 900}
IDLE_JOBS = 100
IDLE_PAUSE_SECONDS = 0.02
WARM_UP_JOBS = 160
MILLISECONDS = 1000.0

OURS, SINGLY, USUAL = "ours", "ours, one by one", "Flask, gunicorn, ORM"
TARGETS = (Target(than=SINGLY, at_least=2.0), Target(than=USUAL, at_least=1.5))
# A tenth is what two rounds of the same code differ by.
IDLE_AT_LEAST = 0.9


@dataclass(kw_only=True)
class Way:
    """A contender's place, how many jobs it gets, and how long each took, by round: under load and when idle."""

    name: str
    place: Place
    jobs: int
    loaded: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, list[float]] = field(default_factory=dict)
    again: int = 0

    def round(self, run: str) -> Stopwatch:
        """Take jobs in for organizations that are new, audit, and take some more in one at a time."""
        accounts = [self.place.new_account() for _ in range(ORGANIZATIONS)]
        _post(self.place, accounts, WARM_UP_JOBS)
        requests = _requests(accounts, self.jobs)
        watch = Stopwatch()
        watch.start(self.place.stack)
        answers = posting.post_all(self.place.stack.port, requests, connections=CONNECTIONS)
        watch.stop()
        _check(answers)
        self.loaded[run] = [answer.seconds for answer in answers]
        self.again += sum(answer.tries - 1 for answer in answers)
        alone = _post(self.place, accounts, IDLE_JOBS, connections=1, pause_seconds=IDLE_PAUSE_SECONDS)
        self.idle[run] = [answer.seconds for answer in alone]
        self.place.check(accounts, jobs=WARM_UP_JOBS + self.jobs + IDLE_JOBS)
        return watch


def run(*, rounds: int, full: bool) -> bool:
    """Run it; tell whether every target was reached."""
    with _ways(few=JOBS["many"] if full else JOBS["few"]) as ways:
        machine.wait_until_quiet()
        print(f"\n   {CONNECTIONS} connections, {ORGANIZATIONS} organizations, an event is a job taken in")
        contenders = [Contender(name=way.name, events=way.jobs, run=way.round) for way in ways]
        done = report.run_in_turn(contenders, rounds=rounds)
        met = report.judge(done, TARGETS)
        report.write_csv("submit", done)
        report.write_rows("submit-latency", [row for way in ways for row in _latencies(way)])
        return _judge_latency(ways) and met


def _judge_latency(ways: Sequence[Way]) -> bool:
    """Print the latencies of all rounds together; tell whether a request that is alone is answered as soon as ever."""
    print(f"\n   {'milliseconds':<42} {'p50':>9} {'p99':>9} {'idle p50':>9} {'idle p99':>9}   sent again")
    for way in ways:
        loaded, idle = (_all_of(times) for times in (way.loaded, way.idle))
        figures = [_quantile(times, part) for times in (loaded, idle) for part in (0.5, 0.99)]
        print(f"   {way.name:<42} " + " ".join(f"{figure:>9.1f}" for figure in figures) + f"   {way.again}")
    ours, singly = (way.idle for way in ways[:2])
    print(f"\n   {'ratio, round by round':<42} {'median':>9} {'min':>9} {'max':>9}   target")
    return report.verdict(
        f"idle p50 of {SINGLY} : of {OURS}",
        [statistics.median(singly[run]) / statistics.median(ours[run]) for run in _measured(ours)],
        target=IDLE_AT_LEAST,
    )


def _latencies(way: Way) -> list[dict[str, Any]]:
    return [
        {
            "round": run,
            "contender": way.name,
            **{f"p{part:g}_ms": _quantile(way.loaded[run], part / 100) for part in (50, 95, 99)},
            **{f"idle_p{part:g}_ms": _quantile(way.idle[run], part / 100) for part in (50, 95, 99)},
        }
        for run in way.loaded
    ]


def _measured(times: dict[str, list[float]]) -> list[str]:
    """Return the names of the rounds that count: the first was the warm-up."""
    return list(times)[1:]


def _all_of(times: dict[str, list[float]]) -> list[float]:
    return [one for run in _measured(times) for one in times[run]]


def _quantile(seconds: Sequence[float], part: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * part))] * MILLISECONDS


def _post(
    place: Place,
    accounts: Sequence[Account],
    count: int,
    *,
    connections: int = CONNECTIONS,
    pause_seconds: float = 0.0,
) -> list[Posted]:
    requests = _requests(accounts, count)
    answers = posting.post_all(place.stack.port, requests, connections=connections, pause_seconds=pause_seconds)
    _check(answers)
    return answers


def _requests(accounts: Sequence[Account], count: int) -> list[bytes]:
    """Return so many different requests, the organizations taking turns."""
    return [_request(accounts[number % len(accounts)]) for number in range(count)]


def _request(account: Account) -> bytes:
    body = {"upload_id": account.upload_id, "style": "modern", "room_type": "bedroom", "variants": 1}
    return posting.request_bytes("/v1/stagings", body, api_key=account.api_key, idempotency_key=new_id("idem"))


def _check(answers: Sequence[Posted]) -> None:
    refused = [answer for answer in answers if answer.status != 202]
    if refused:
        raise audit.AuditFailed(f"{len(refused)} of {len(answers)} refused, the first: {refused[0].body!r}")
    audit.check("different jobs answered", found=len({answer.job_id for answer in answers}), expected=len(answers))


@contextlib.contextmanager
def _ways(*, few: int) -> Iterator[list[Way]]:
    """Start the servers and every contender; all stay up, and only one is asked at a time."""
    with contextlib.ExitStack() as stack:
        home, postgres = stack.enter_context(servers.postgres_started())
        print("   starting RabbitMQ ...", flush=True)
        node = start_rabbitmq(home / "mq")
        stack.callback(node.stop)
        print("   starting the contenders ...", flush=True)
        logs.configure(process="benchmark", level="WARNING")
        ours = partial(accepting.our_place, home, postgres, node)
        places = {
            OURS: ours(name="ours", runner="shared.runner"),
            SINGLY: ours(name="singly", runner="benchmarks.contenders.one_by_one"),
            USUAL: accepting.usual_place(home, postgres),
        }
        yield [
            Way(name=name, place=stack.enter_context(place), jobs=JOBS["many"] if name == OURS else few)
            for name, place in places.items()
        ]
