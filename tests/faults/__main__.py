"""`make faults [F=name]`: kills each process, and dies at each crash point, in the middle of 50 jobs; then audits.

Rows: ``kill-<process>`` for every process, RabbitMQ and PostgreSQL, and ``crash-<point>`` for every crash point.
A row passes when every accepted job has ended, every image is whole, the balance is what the jobs say, and
`darkroom audit --deep` finds nothing.
"""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.crash import POINTS
from tests.faults.client import Client, credentials, new_organization
from tests.faults.stack import Stack, running_stack

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
# Deleting an upload, a webhook and a mail are no part of these jobs, nor is a provider that is asked later: all of them
# have tests of their own.
SAGA_POINTS = tuple(point for point in POINTS if not point.startswith(("catalog.", "poller.", "webhooks.", "mails.")))
END_SECONDS = 150.0
ARMED_SECONDS = 30.0


@dataclass(frozen=True)
class Row:
    """One line of the matrix: its name, and what is done in the middle of the jobs."""

    name: str
    strike: Callable[[Stack], None]


def rows() -> list[Row]:
    """Return the whole matrix."""
    kills = [Row(f"kill-{process}", lambda stack, process=process: stack.kill(process)) for process in KILLED]
    crashes = [Row(f"crash-{point}", lambda stack, point=point: stack.arm(point)) for point in SAGA_POINTS]
    return kills + crashes


def main(wanted: list[str]) -> int:
    """Run the rows whose name starts with one of ``wanted``, or all; return the exit status."""
    chosen = [row for row in rows() if not wanted or any(row.name.startswith(name) for name in wanted)]
    if not chosen:
        say("There is no such row. The rows are:")
        say("\n".join(f"  {row.name}" for row in rows()))
        return 2
    say(f"{len(chosen)} rows, {JOBS} jobs each. Starting a stack of its own ...")
    failures = 0
    with running_stack() as stack:
        keys = credentials(stack.home)
        for row in chosen:
            client = new_organization(keys["gateway_url"], keys["admin_key"], credits_granted=BALANCE)
            began = time.monotonic()
            problems = run(row, stack, client)
            failures += bool(problems)
            report(row, client, problems, seconds=time.monotonic() - began)
    say(f"{len(chosen) - failures} passed, {failures} failed")
    return 1 if failures else 0


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
    return problems + check_jobs(client) + check_audit(stack)


def never_reached(stack: Stack) -> list[str]:
    """Take the crash point back and say so: a row whose fault did not happen has shown nothing."""
    stack.disarm()
    return ["the crash point was never reached"]


def check_jobs(client: Client) -> list[str]:
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
    problems += [f"{job['id']} ended as {job['status']}" for job in jobs if job["status"] != "succeeded"]
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
