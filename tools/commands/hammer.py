"""`darkroom hammer`: many clients at the ledger at once, then its audit."""

import argparse
import secrets
from collections.abc import Iterator
from functools import partial

from tools.hammer import DONE, Result, hammer
from tools.hammer_movements import MOVEMENTS

SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--clients", type=int, default=16, metavar="N", help="how many at once (16)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="for how long (60)")
    parser.add_argument("--seed", type=int, help="repeat the choices of an earlier run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Hammer and tell; the exit status is 1 if anything does not add up."""
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    tell = partial(print, flush=True)
    tell(f"{arguments.clients} clients for {arguments.seconds:.0f} s, seed {seed}")
    result = hammer(clients=arguments.clients, seconds=arguments.seconds, seed=seed, tell=tell)
    tell("\n".join(report(result)))
    return 0 if result.sound else 1


def report(result: Result) -> Iterator[str]:
    """Yield the lines of the report: what was done and refused, then everything that does not add up."""
    yield f"{'movement':<28} {'done':>8}  refused"
    for movement in MOVEMENTS:
        counts = {outcome: count for (name, outcome), count in result.outcomes.items() if name == movement.name}
        done = counts.pop(DONE, 0)
        refused = ", ".join(f"{outcome} {count:,}" for outcome, count in sorted(counts.items()))
        yield f"{movement.name:<28} {done:>8,}  {refused}".rstrip()
    yield f"{result.entries:,} entries in the ledger, {result.entries / result.seconds:,.0f} a second"
    for failure in result.failures:
        yield f"A client ended: {failure}"
    for number, deadlock in enumerate(result.deadlocks, start=1):
        yield f"Deadlock {number}: {deadlock}"
    yield from _violations(result)
    yield "The ledger adds up." if result.sound else "The ledger does NOT add up."


def _violations(result: Result) -> Iterator[str]:
    lines = [
        f"{each['invariant']}: {each['subject']}: expected {each['expected']}, found {each['found']}"
        for each in result.violations
    ]
    if not lines:
        yield "The audit finds nothing."
        return
    yield f"The audit finds {len(lines)} violations. The first broken row: {lines[0]}"
    yield from (f"  {line}" for line in lines[1:SHOWN])
