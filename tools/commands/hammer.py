"""`darkroom hammer`: many clients at the ledger at once, then its audit."""

import argparse
import secrets

from tools.hammer import hammer


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--clients", type=int, default=16, metavar="N", help="how many at once (16)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for how long (10)")
    parser.add_argument("--seed", type=int, help="repeat the choices of an earlier run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Hammer and tell; the exit status is 1 if anything does not add up."""
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    print(f"{arguments.clients} clients for {arguments.seconds:.0f} s, seed {seed}", flush=True)
    result = hammer(clients=arguments.clients, seconds=arguments.seconds, seed=seed)
    for name, count in sorted(result.done.items()):
        print(f"  {count:>8}  {name}")
    print(f"  {result.entries:>8}  entries in the ledger ({result.entries / result.seconds:.0f} a second)")
    for failure in result.failures:
        print(f"  a client ended: {type(failure).__name__}: {failure}")
    for each in result.violations:
        print(f"  {each['invariant']}: {each['subject']}: expected {each['expected']}, found {each['found']}")
    sound = not (result.failures or result.violations)
    print("The audit finds nothing." if sound else "The ledger does NOT add up.")
    return 0 if sound else 1
