"""`python -m benchmarks [name]`: runs one benchmark or all; exit status 1 when an audit fails or a target is missed."""

# ruff: noqa: E402  the filter must stand before anything that imports eventlet
import warnings

warnings.filterwarnings("ignore", message="\nEventlet is deprecated")

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import claiming, engine, flight, inbox, ledger, machine, outbox, report, submit
from benchmarks.audit import AuditFailed
from benchmarks.children import ChildFailed


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: what it measures in a line, and the function that runs it and tells whether targets were met."""

    title: str
    run: Callable[..., bool]


BENCHMARKS = {
    "claiming": Benchmark(title="claiming from 100,000 queued operations of 1,000 organizations", run=claiming.run),
    "engine": Benchmark(title="500 jobs of 4 images at a provider of 200 ms and 200 at once", run=engine.run),
    "flight": Benchmark(title="1,000 operations of 30 s in flight in one worker process", run=flight.run),
    "outbox": Benchmark(title="draining the outbox, commit to broker; latency when idle", run=outbox.run),
    "inbox": Benchmark(title="draining a full queue, one deduplicated state update an event", run=inbox.run),
    "ledger": Benchmark(title="holding credits: 16 writers at one account; 2,000 lines in one call", run=ledger.run),
    "submit": Benchmark(title="taking jobs in: POST to 202 over HTTP, 16 connections and one", run=submit.run),
}


def main(arguments: list[str]) -> int:
    """Run what was asked for; return the exit status."""
    asked = _parse(arguments)
    missed = []
    for name in [asked.name] if asked.name else list(BENCHMARKS):
        print(f"\n== {name}: {BENCHMARKS[name].title}")
        print(f"   {machine.describe()}", flush=True)
        try:
            if not BENCHMARKS[name].run(rounds=asked.rounds, full=asked.full):
                missed.append(name)
        except (AuditFailed, ChildFailed) as error:
            print(f"\n{name} FAILED: {error}", file=sys.stderr)
            missed.append(name)
    print(f"\nMissed or failed: {', '.join(missed)}" if missed else "\nEvery target was met.")
    return 1 if missed else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="which one; all when left out")
    parser.add_argument("--full", action="store_true", help="as many events for every contender (minutes)")
    parser.add_argument("--rounds", type=int, default=report.ROUNDS, help="measured rounds after the warm-up")
    asked = parser.parse_args(arguments)
    if asked.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return asked


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to stop it take the servers along
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
