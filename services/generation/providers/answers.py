"""What vendors answer, out of its writing: JSON and base 64. What is large is read off the hub; all of it is read.

A picture of 20 MB in an answer would stop everything else in the process for a third of a second.
"""

import base64
import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import structlog

from services.generation.storable import storable
from shared.off_hub import WorkFailed, off_hub

# What is smaller takes a few milliseconds.
LARGE: Final = 1_000_000
_PERHAPS_UNSTORABLE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")

log = structlog.get_logger(__name__)
T = TypeVar("T")
Text = TypeVar("Text", str, bytes)


def of_json(body: bytes) -> Any:
    """Return the body as JSON that can be stored, or None where it is none."""
    return _read(read_json, body)


def of_base64(text: str) -> bytes:
    """Return the bytes that ``text`` is in base 64; raises ValueError where it is none."""
    return _read(read_base64, text)


def read_json(body: bytes) -> Any:
    """Do what `of_json` does: at 300 MB a second, and so through `shared.off_hub` where it is large."""
    try:
        found = json.loads(body)
        # An image in an answer is one long text: looked through only where there may be something in it.
        return storable(found) if _PERHAPS_UNSTORABLE.search(body) else found
    except (ValueError, RecursionError):
        return None


def read_base64(text: str) -> bytes:
    """Do what `of_base64` does: at 150 MB a second, and so through `shared.off_hub` where it is large."""
    return base64.b64decode(text, validate=True)


def _read(read: Callable[[Text], T], text: Text) -> T:
    if len(text) <= LARGE:
        return read(text)
    try:
        return off_hub(read, text)
    except WorkFailed as problem:
        # It is paid for: rather everything waits for a moment than that it is lost.
        log.warning("answer_read_on_the_hub", length=len(text), why=problem.detail)
        return read(text)
