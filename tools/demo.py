"""`make demo`: starts the embedded stack if need be, stages a photo on it, stops what it started.

Prints a short story and, as its last line, one JSON object: ``{"ok", "job", "status", "images", "charged",
"refunded", "available"}``; with ``ok`` false there is a ``reason``, and the exit status is 1.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom_client import Darkroom, DarkroomError
from deploy.local import home, records
from deploy.local.home import CHECKOUT
from tools import contact_sheet, demo_room
from tools.demo_story import DemoFailed, Outcome, stage

OUTPUT = CHECKOUT / "demo-output"
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("photo", nargs="?", type=Path, metavar="PHOTO", help="default: a room of the project's own")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Tell the story; whatever happens, the last line is the JSON object."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)

    try:
        result = _told(arguments.photo, say=say)
    except (DemoFailed, DarkroomError, OSError, RuntimeError, ValueError, KeyError) as error:
        # A KeyError's text is only the name of what is missing.
        result = {"ok": False, "reason": repr(error) if isinstance(error, KeyError) else str(error)}
    print(json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


def _told(given: Path | None, *, say: Callable[[str], None]) -> dict[str, Any]:
    if given is not None and not given.is_file():
        raise DemoFailed(f"there is no photo {given}; give the path of a JPEG, PNG or WebP file")
    OUTPUT.mkdir(exist_ok=True)
    with ThreadPoolExecutor(max_workers=1) as aside:
        # Drawing takes a few seconds, as the stack does.
        photo = aside.submit(_own_room if given is None else lambda: given)
        with running_stack(say):
            outcome = _staged(photo.result(), say=say)
    return {
        "ok": True,
        "job": outcome.job.id,
        "status": outcome.job.status,
        "images": [_shown(file) for file in outcome.files],
        "charged": outcome.job.charged,
        "refunded": outcome.job.refunded,
        "available": outcome.available,
    }


def _staged(photo: Path, *, say: Callable[[str], None]) -> Outcome:
    stack = home.find_home()
    credentials = home.read_json(stack.credentials_file)
    if credentials is None:
        raise DemoFailed(f"{stack.credentials_file} is missing; run: make down, then make up")
    with Darkroom(credentials["api_key"], base_url=credentials["gateway_url"]) as darkroom:
        outcome = stage(darkroom, photo, folder=OUTPUT, say=say)
    sheet = OUTPUT / "contact-sheet.jpg"
    labelled = [(f"variant {number}", file) for number, file in enumerate(outcome.files, 1)]
    contact_sheet.contact_sheet(original=photo, results=labelled, out=sheet)
    say(f"look at {_shown(sheet)}: before and after, side by side")
    return outcome


def _own_room() -> Path:
    file = OUTPUT / "room.jpg"
    file.write_bytes(demo_room.demo_room())
    return file


@contextmanager
def running_stack(say: Callable[[str], None]) -> Iterator[None]:
    """Run the block on the embedded stack; one that was up already stays up.

    Raises:
        DemoFailed: it does not start.
    """
    was_up = records.read(home.find_home(), records.SUPERVISOR).keeper is not None
    say("the stack is up already" if was_up else "starting the stack")
    try:
        _start()
        say("the stack is ready")
        yield
    finally:
        if not was_up:
            say("stopping the stack")
            subprocess.run(_launcher("down"), cwd=CHECKOUT, env=_ENVIRONMENT, stdout=subprocess.DEVNULL, check=False)  # noqa: S603  our own launcher


def _start() -> None:
    """Start the stack or wait until it is ready, passing on what it says until then; its keys are no part of it."""
    with subprocess.Popen(  # noqa: S603  our own launcher
        _launcher("up"), cwd=CHECKOUT, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as launcher:
        told = True
        for line in launcher.stdout or ():
            told = told and not line.startswith(("Darkroom is ready", "The stack is up"))
            if told:
                print(f"          {line.rstrip()}", flush=True)
    if launcher.returncode != 0:
        raise DemoFailed("the stack did not start; what it said is above")


def _launcher(command: str) -> list[str]:
    return [sys.executable, "-m", "deploy.local", command]


def _shown(file: Path) -> str:
    return file.relative_to(CHECKOUT).as_posix()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo by itself."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    configure(parser)
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


if __name__ == "__main__":
    sys.exit(main())
