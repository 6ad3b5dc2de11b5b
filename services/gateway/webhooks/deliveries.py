"""What every delivery of a webhook has to have, whoever sends it: an id, and a time that is now."""

import json
import re
from typing import Final, Protocol

from werkzeug.datastructures import Headers

TOLERANCE_SECONDS: Final = 300
_SECONDS = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_PLAIN = re.compile(r"[!-~]{1,200}", re.ASCII)
_ID = re.compile(r"[\w.-]{1,200}", re.ASCII)


class NotGenuine(Exception):
    """The vendor has not sent this, or not now; the message says what is wrong, for the log."""


class Vendor(Protocol):
    """Knows whether a vendor has sent something."""

    def verify(self, headers: Headers, body: bytes, *, now: float) -> str:
        """Return the id of a delivery: the same however often the vendor repeats it.

        Args:
            headers: of the request, found by name in any case.
            body: its bytes as they came.
            now: Unix time in seconds.

        Raises:
            NotGenuine: it is not the vendor's.
            Unavailable: that cannot be told just now.
        """

    def work_of(self, body: bytes) -> str | None:
        """Return what the vendor calls the work that a genuine delivery tells of; None where it does not say."""


def named(body: bytes, field: str) -> str | None:
    """Return what a body, JSON, has in ``field``, if that may be a vendor's id; all else in it is left alone."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = content.get(field) if isinstance(content, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None


def header(headers: Headers, name: str) -> str:
    """Return the value of a header that a delivery needs: up to 200 visible characters.

    Raises:
        NotGenuine: it is not there, or is no such text.
    """
    value = headers.get(name) or ""
    if not _PLAIN.fullmatch(value):
        raise NotGenuine(f"it has no usable {name}")
    return value


def stamped_now(headers: Headers, name: str, *, now: float) -> str:
    """Return the time a delivery was signed at, as it was signed: Unix seconds, at most 300 from ``now``.

    Raises:
        NotGenuine: it has none, or is too old or too new.
    """
    stamp = header(headers, name)
    if not _SECONDS.fullmatch(stamp):
        raise NotGenuine(f"its {name} is no time")
    if abs(now - int(stamp)) > TOLERANCE_SECONDS:
        raise NotGenuine("it is too old, or from the future")
    return stamp
