"""`darkroom dead-letters`: what was set aside because it could not be read or handled, and what to do with it."""

import argparse
import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from shared import broker, dead_letters
from shared.config import SERVICES
from shared.dead_letters import DeadLetter, NotReplayed
from shared.topology import UNROUTED
from tools.environment import setting
from tools.failures import CommandFailed

PLACES = (*SERVICES, UNROUTED)
Found = list[tuple[str, DeadLetter]]
Act = Callable[..., int]
_PATIENCE_SECONDS = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(metavar="<action>", required=True)
    for name, run, help_text in (
        ("list", run_list, "one line a message; nothing is taken away"),
        ("show", run_show, "messages in full"),
        ("replay", run_replay, "send them again to the queue they failed in"),
        ("drop", run_drop, "delete them for good"),
    ):
        action = actions.add_parser(name, help=help_text, description=help_text)
        action.add_argument("--service", choices=PLACES, help="only this one's (default: all)")
        action.add_argument("--reason", help="only those with this reason, such as handler_failed")
        if name == "list":
            action.add_argument("--json", action="store_true", help="print one JSON array")
            action.set_defaults(ids=[], all=True)
        else:
            action.add_argument("ids", nargs="*", metavar="ID", help="message ids, evt_…")
            action.add_argument("--all", action="store_true", help="all there are")
        action.set_defaults(run=run)


def run_list(arguments: argparse.Namespace) -> int:
    """Print what there is."""
    found = chosen(arguments)
    if arguments.json:
        print(json.dumps([_plain(place, letter) for place, letter in found]))
        return 0
    for place, letter in found:
        print(f"{letter.message_id:<30} {letter.event_type:<20} {place:<13} {letter.routing_key:<35} {letter.reason}")
        if letter.detail:
            print(f"    {letter.detail}")
    print(f"{len(found)} messages")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print messages with their bodies."""
    for place, letter in chosen(arguments):
        print(json.dumps(_plain(place, letter), indent=2))
    return 0


def run_replay(arguments: argparse.Namespace) -> int:
    """Send messages again."""
    return _each_place(chosen(arguments), dead_letters.replay, done="sent again")


def run_drop(arguments: argparse.Namespace) -> int:
    """Delete messages."""
    return _each_place(chosen(arguments), dead_letters.drop, done="dropped")


def chosen(arguments: argparse.Namespace) -> Found:
    """Return the messages that the arguments name, each with the service whose dead letters it lies in.

    Raises:
        CommandFailed: they name none, or one that is not there.
    """
    if bool(arguments.ids) == arguments.all:
        raise CommandFailed("give the ids of messages, or --all; `dead-letters list` shows what there is")
    places = [arguments.service] if arguments.service else PLACES
    with _answering_broker():
        there = [(place, letter) for place in places for letter in dead_letters.listed(setting("AMQP_URL"), place)]
    found = [
        (place, letter)
        for place, letter in there
        if arguments.reason in {None, letter.reason} and (arguments.all or letter.message_id in arguments.ids)
    ]
    missing = sorted(set(arguments.ids) - {letter.message_id for _, letter in found})
    if missing:
        raise CommandFailed(f"not found: {', '.join(missing)}")
    return found


def _each_place(found: Found, act: Act, *, done: str) -> int:
    count = 0
    for place in PLACES:
        ids = {letter.message_id for where, letter in found if where == place}
        if ids:
            count += _patiently(act, place, ids)
    print(f"{count} messages {done}")
    return 0


def _patiently(act: Act, place: str, ids: Collection[str]) -> int:
    """Act on all of ``ids``: what was looked at a moment ago may still be on its way back into the queue."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    count = 0
    while True:
        with _answering_broker():
            count += act(setting("AMQP_URL"), place, message_ids=ids)
        if count >= len(ids):
            return count
        if time.monotonic() > give_up_at:
            raise CommandFailed(
                f"{count} of {len(ids)} messages of {place} were there; is somebody else at work on them? Look again"
            )
        time.sleep(0.1)


@contextmanager
def _answering_broker() -> Iterator[None]:
    try:
        yield
    except NotReplayed as error:
        raise CommandFailed(f"{error} bin/darkroom topology declares it") from error
    except broker.BROKER_ERRORS as error:
        raise CommandFailed(
            f"RabbitMQ does not answer as it should ({type(error).__name__}: {error}); is it up, and the topology"
            " declared? bin/darkroom topology"
        ) from error


def _plain(place: str, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.message_id,
        "type": letter.event_type,
        "service": place,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "set_aside_at": letter.set_aside_at,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "body": letter.body.decode("utf-8", "replace"),
    }
