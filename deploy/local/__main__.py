"""Command line of the embedded stack: `python -m deploy.local up | down | status | logs | serve`."""

import argparse
import os
import sys

from deploy.local import home, logs, servers, status
from deploy.local.down import down
from deploy.local.names import SERVERS
from deploy.local.up import up


def main(arguments: list[str]) -> int:
    """Run one command. Returns the exit code; an error is told in words, not as a traceback."""
    given = _parser().parse_args(arguments)
    stack = home.find_home()
    try:
        return _run(given, stack)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (RuntimeError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(given: argparse.Namespace, stack: home.Home) -> int:
    match given.command:
        case "up":
            up(stack, hostile=given.providers == "hostile")
        case "down":
            down(stack)
        case "status":
            return 0 if status.status(stack) else 1
        case "logs":
            logs.follow(stack, name=given.process or None, lines=given.lines)
        case "serve":
            servers.serve(stack, given.server)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start everything in the background, return when all is ready")
    start.add_argument("--providers", choices=("hostile",), help="AI vendors of our own that misbehave by script")
    commands.add_parser("down", help="end everything")
    commands.add_parser("status", help="one line per process; exit code 0 when all are ready")
    follow = commands.add_parser("logs", help="show and follow the logs")
    follow.add_argument("process", nargs="?", help="one process, such as credits (default: all)")
    follow.add_argument("--lines", type=int, default=20, help="how many lines of the past (default 20)")
    serve = commands.add_parser("serve", help="run one server in the foreground (for the Procfile)")
    serve.add_argument("server", choices=SERVERS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
