"""`python -m tools <command>`: finds the command, reads its arguments, tells in a line what went wrong."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

import structlog

from tools.failures import CommandFailed

# Only the command that was asked for is imported: some need half the system, and some patch the process.
COMMANDS = {
    "migrate": "bring every service's database to its newest version",
    "topology": "declare every exchange, queue and binding in RabbitMQ",
    "organization": "make an organization with its first owner and key",
    "credits": "give an organization credits",
    "analytics": "make the statistics of headshots anew from the log of events",
    "prices": "look at the price book, and change it from some time on",
    "audit": "recompute the money and compare rows, objects, events and queues",
    "jobs": "look at one job through all services",
    "events": "follow the events as they are published",
    "mail": "look at the mails that the embedded stack wrote into its folder",
    "dead-letters": "look at messages that were set aside, send them again or drop them",
    "cleanup": "delete stored objects that no row names",
    "contracts": "write the API's and the events' documents anew, or check them",
    "hammer": "let many clients at the ledger at once, then audit it",
    "hostile-providers": "serve AI vendors of our own that misbehave by script",
    "demo": "stage a photo end to end, as a client would",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 failed or something was found, 2 used wrongly."""
    warnings.filterwarnings("ignore", message="\nEventlet is deprecated")
    _log_errors_only()
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = words[0] if words and words[0] in COMMANDS else None
    parser = argparse.ArgumentParser(prog="darkroom", description="Darkroom's command line for operators.")
    commands = parser.add_subparsers(title="commands", metavar="<command>", required=True)
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            module = import_module(f"tools.commands.{name.replace('-', '_')}")
            module.configure(command)
    parsed = parser.parse_args(words)
    try:
        return int(parsed.run(parsed))
    except CommandFailed as failure:
        print(f"darkroom {chosen}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough, `| head` for one. Nothing may be written any more, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _log_errors_only() -> None:
    """Keep standard output to what a command prints; what the services' code logs in passing is no part of it."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
