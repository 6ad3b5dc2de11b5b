"""`make faults [F=name]`: kills each process, and dies at each crash point, in the middle of 50 jobs; then audits.

Rows: ``kill-<process>`` for every process, RabbitMQ and PostgreSQL, ``crash-<point>`` for every crash point, and
``<vendor>-crash-<point>`` for those of the engine while an AI vendor (the hostile server's) is at work.
A row passes when every accepted job has ended, every image is whole, the balance is what the jobs say, no vendor has
billed an operation twice, and `darkroom audit --deep` finds nothing.
"""

import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from services.generation.scheduler import FEW
from shared.crash import POINTS
from tests.contracts.providers import environment_of
from tests.faults.client import Client, credentials, new_organization
from tests.faults.stack import WORKER_SLOTS, Stack, running_stack
from tools.hostile_providers.server import HostileProviders
from tools.hostile_providers.world import World

JOBS = 50
BALANCE = 10_000
PRICE = 10
KILLED = (
    "gateway",
    "credits",
    "generation",
    "generation-worker",
    "catalog",
    "downloads",
    "notifications",
    "rabbitmq",
    "postgres",
)
# Deleting an upload, analyses, webhooks and mails are no part of these jobs; their crash points are tested alone.
# Who is asked later is with the vendors.
ASIDE = ("catalog.", "poller.", "analyses.", "webhooks.", "mails.")
SAGA_POINTS = tuple(point for point in POINTS if not point.startswith(ASIDE))
ENGINE_POINTS = tuple(point for point in POINTS if point.startswith(("scheduler.", "poller.")))
END_SECONDS = 240.0
ARMED_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """Whose work the jobs of a row are.

    ``is_asked``: it takes work, is polled, and calls back. ``is_searched``: an answer that was lost is found there,
    after two minutes; else what the worker that died had sent, and no webhook tells of, is given back, once the
    vendor's time limit has passed.
    """

    name: str = "local"
    is_asked: bool = False
    is_searched: bool = False

    @property
    def may_fail(self) -> int:
        """How many jobs may end without an image: what one worker has sent at most."""
        return 0 if self.name == "local" or self.is_searched else WORKER_SLOTS + FEW

    @property
    def variables(self) -> dict[str, str]:
        """Settings of a stack whose stagings it does."""
        limit = {} if self.is_searched else {f"PROVIDER_{self.name.upper()}_TIME_LIMIT_SECONDS": "20"}
        return {"PROVIDER_ROUTES": f'{{"image.stage": ["{self.name}"]}}', **limit}


LOCAL = Vendor()
VENDORS = (
    Vendor(name="replicate", is_asked=True, is_searched=True),
    Vendor(name="fal", is_asked=True),
    Vendor(name="openai"),
)


@dataclass(frozen=True)
class Row:
    """One line of the matrix: its name, what is done in the middle of the jobs, and who works on these."""

    name: str
    strike: Callable[[Stack], None]
    vendor: Vendor = LOCAL


def rows() -> list[Row]:
    """Return the whole matrix."""
    kills = [Row(f"kill-{process}", lambda stack, process=process: stack.kill(process)) for process in KILLED]
    crashes = [Row(f"crash-{point}", lambda stack, point=point: stack.arm(point)) for point in SAGA_POINTS]
    return kills + crashes + [row for vendor in VENDORS for row in rows_of(vendor)]


def rows_of(vendor: Vendor) -> Iterator[Row]:
    """Yield the rows in which a vendor is at work."""
    yield Row(f"{vendor.name}-kill-generation-worker", lambda stack: stack.kill("generation-worker"), vendor)
    for point in ENGINE_POINTS:
        if vendor.is_asked or not point.startswith("poller."):
            yield Row(f"{vendor.name}-crash-{point}", lambda stack, point=point: stack.arm(point), vendor)


def main(wanted: list[str]) -> int:
    """Run the rows whose name starts with one of ``wanted``, or all; return the exit status."""
    chosen = [row for row in rows() if not wanted or any(row.name.startswith(name) for name in wanted)]
    if not chosen:
        say("There is no such row. The rows are:")
        say("\n".join(f"  {row.name}" for row in rows()))
        return 2
    say(f"{len(chosen)} rows, {JOBS} jobs each")
    failures = sum(
        run_rows(list(of_vendor), vendor) for vendor, of_vendor in itertools.groupby(chosen, key=lambda row: row.vendor)
    )
    say(f"{len(chosen) - failures} passed, {failures} failed")
    return 1 if failures else 0


def run_rows(chosen: Sequence[Row], vendor: Vendor) -> int:
    """Run rows in a stack of their own; return how many failed."""
    failures = 0
    say("Starting a stack of its own ...")
    with vendors_of(vendor) as (world, variables), running_stack(**variables) as stack:
        keys = credentials(stack.home)
        for row in chosen:
            client = new_organization(keys["gateway_url"], keys["admin_key"], credits_granted=BALANCE)
            began = time.monotonic()
            problems = run(row, stack, client) + check_bills(client, world)
            failures += bool(problems)
            report(row, client, problems, seconds=time.monotonic() - began)
    return failures


@contextmanager
def vendors_of(vendor: Vendor) -> Iterator[tuple[World, Mapping[str, str]]]:
    """Serve the vendors where one of them is needed; give their world, and the settings that lead to them."""
    if vendor == LOCAL:
        yield World(), {}
        return
    with HostileProviders().running() as server:
        yield server.world, {**environment_of(server), **vendor.variables}


def run(row: Row, stack: Stack, client: Client) -> list[str]:
    """Put the load on, strike in its middle, wait for the end; return what is wrong."""
    upload_id = client.upload()
    sender = client.stage_many(upload_id, count=JOBS)
    wait_for(lambda: len(client.accepted) >= JOBS // 3, seconds=60)
    row.strike(stack)
    client.upload()
    sender.join(timeout=END_SECONDS)
    problems = (
        [] if not stack.armed or wait_for(lambda: not stack.armed, seconds=ARMED_SECONDS) else never_reached(stack)
    )
    if len(client.accepted) != JOBS:
        problems.append(f"{len(client.accepted)} of {JOBS} jobs were accepted; refused: {client.refused}")
    return problems + check_jobs(client, row.vendor) + check_audit(stack)


def never_reached(stack: Stack) -> list[str]:
    """Take the crash point back and say so: a row whose fault did not happen has shown nothing."""
    stack.disarm()
    return ["the crash point was never reached"]


def check_bills(client: Client, world: World) -> list[str]:
    """Compare what the vendors billed for with what the organization got; the next row begins without bills."""
    bills, world.bills = world.bills, []
    billed = Counter(bill.operation_id for bill in bills)
    wrong = [f"{operation_id} was billed {count} times" for operation_id, count in billed.items() if count > 1]
    if len(billed) > len(client.accepted):
        wrong.append(f"{len(billed)} operations were billed, of {len(client.accepted)} jobs")
    return wrong


def check_jobs(client: Client, vendor: Vendor) -> list[str]:
    """Wait for the end of every accepted job, and compare images and money with what was promised."""
    deadline = time.monotonic() + END_SECONDS
    jobs = []
    for job_id in client.accepted:
        job = client.job(job_id)
        while not job["finished_at"] and time.monotonic() < deadline:
            time.sleep(0.2)
            job = client.job(job_id)
        jobs.append(job)
    problems = [f"{job['id']} is still {job['status']}" for job in jobs if not job["finished_at"]]
    failed = [job for job in jobs if job["finished_at"] and job["status"] != "succeeded"]
    lost = [job for job in failed if reason_of(job) == "outcome_unknown"]
    problems += [f"{job['id']} ended as {job['status']}: {reason_of(job)}" for job in failed if job not in lost]
    if len(lost) > vendor.may_fail:
        problems.append(f"the outcome of {len(lost)} jobs is unknown, of {vendor.may_fail} it may be")
    images = [image for job in jobs for image in client.images(job)]
    problems += [f"image {image['id']} is damaged" for image in images if not client.is_whole(image)]
    made = sum(job["charged"] for job in jobs) // PRICE
    if len(images) != made:
        problems.append(f"{made} images were charged, {len(images)} are there")
    settled = wait_for(lambda: client.wallet()["held"] == 0, seconds=60)
    wallet = client.wallet()
    if not settled or wallet["available"] != BALANCE - PRICE * made:
        problems.append(f"the wallet holds {wallet}, but {made} images were charged")
    return problems


def reason_of(job: Mapping[str, Any]) -> str | None:
    """Return why a job's first generation failed."""
    failure = job["generations"][0]["failure"]
    return failure and str(failure["reason"])


def check_audit(stack: Stack) -> list[str]:
    """Run the operator's audit until the last events have settled; return what it still finds."""
    for _ in range(10):
        audit = stack.command("tools", "audit", "--deep")
        if audit.returncode == 0:
            return []
        time.sleep(2)
    return [f"the audit failed:\n{audit.stdout[-2000:]}{audit.stderr[-1000:]}"]


def wait_for(true: Callable[[], bool], *, seconds: float) -> bool:
    """Look again until ``true()``, at most ``seconds``; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def report(row: Row, client: Client, problems: list[str], *, seconds: float) -> None:
    """Print one line, and below it what went wrong."""
    state = "FAIL" if problems else "ok"
    say(
        f"{state:<5} {row.name:<46} {len(client.accepted)} jobs, {client.sent_again} requests repeated, {seconds:.0f} s"
    )
    for problem in problems[:10]:
        say(f"      {problem}")


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201  a command prints


if __name__ == "__main__":
    # Told to stop, it stops its stack first.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
