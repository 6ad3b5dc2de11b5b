"""What a client that follows the log is sent: first what the log has, then what is heard, no event left out or twice.

The rule (docs/notifications.md): listen first, read the log until its end, then pass on what was heard with a higher
number; where a number is not the next one, read again.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog

from services.gateway.streams import OpenStream, frame
from shared.budget import TimeLimitExceeded
from shared.http_schemas import error_at
from shared.problems import BadRequest, Unavailable

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
PIECE_SECONDS: Final = 30.0
PAGE: Final = 100
PIECE_BYTES: Final = 64_000
LOG_AWAY_SECONDS: Final = 1.0
BEGIN_WITHIN_SECONDS: Final = 0.5
_RETRY_MS: Final = (1_000, 5_000)
_DIGITS_MAX: Final = 18
_jitter = random.SystemRandom()


def cursor_of(last_event_id: str | None, after: str | None) -> str | None:
    """Return where to begin: after what a client that comes back has seen, else where it asks for.

    Raises:
        BadRequest: what it has seen is no event's id.
    """
    if not last_event_id:
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > _DIGITS_MAX:
        errors = [error_at("/headers/Last-Event-ID", "invalid", "send the id of the last event as it came")]
        raise BadRequest("Last-Event-ID is not the id of an event, such as 42.", errors=errors)
    return last_event_id


def follow(stream: OpenStream, events: Any, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> Iterator[bytes]:
    """Yield what a client is sent until the stream is closed; the first piece has the beginning of the backlog.

    Args:
        stream: the client's, which is opened here and closed in the end.
        events: the notifications service, whose ``events`` gives pages of the log.
        heartbeat_seconds: how long nothing may come.

    Raises:
        TooManyStreams, ReducedCapacity, Unavailable: before the first piece; later, the log is waited for.
    """
    try:
        stream.open()
        yield from _Follower(stream, events).pieces(heartbeat_seconds)
    finally:
        stream.close()


class _Follower:
    """Where one client stands in the log: ``position`` is what it need not be told any more."""

    def __init__(self, stream: OpenStream, events: Any) -> None:
        self._stream = stream
        self._events = events
        self._position = 0
        self._told = 0  # the id that the client knows

    def pieces(self, heartbeat_seconds: float) -> Iterator[bytes]:
        yield self._preamble() + self._beginning()
        due = time.monotonic() + heartbeat_seconds
        while not self._stream.closed:
            piece = self._from_log() if self._stream.behind else self._heard(due - time.monotonic())
            if not piece and time.monotonic() >= due:
                piece = self._heartbeat()
            if piece:
                yield piece
                due = time.monotonic() + heartbeat_seconds

    def _preamble(self) -> bytes:
        """Say when to come back: not all at once, where many are sent away together."""
        return b"retry: %d\n\n" % _jitter.randint(*_RETRY_MS)

    def _beginning(self) -> bytes:
        after = self._stream.wanted.after
        if after is None:
            with self._stream.turn_to_read():
                self._position = self._told = int(self._page("0", limit=1)["last"])
            return b""
        self._position = self._told = int(after)
        with contextlib.ExitStack() as turn:
            try:
                turn.enter_context(self._stream.turn_to_read(seconds=BEGIN_WITHIN_SECONDS))
            except Unavailable:
                self._stream.miss()  # many begin at once: it is let in, and gets its backlog when it is its turn
                return b""
            self._stream.begin_to_catch_up()
            return self._of_page(self._page(after, limit=PAGE))

    def _from_log(self) -> bytes:
        try:
            with self._stream.turn_to_read():
                self._stream.begin_to_catch_up()  # not before it is its turn: what is heard meanwhile is in the page
                page = self._page(str(self._position), limit=PAGE)
        except (Unavailable, TimeLimitExceeded) as error:
            log.warning("stream_waits_for_the_log", error_type=type(error).__name__)
            self._stream.miss()
            self._stream.rest(LOG_AWAY_SECONDS)
            return b""
        return self._of_page(page)

    def _of_page(self, page: Mapping[str, Any]) -> bytes:
        if page["resync"]:
            self._position = self._told = int(page["last"])
            # What is heard meanwhile goes on from there; what is in this page is part of what is to be looked at anew.
            return frame(page["last"], "resync", {"oldest": page["oldest"], "last": page["last"]})
        found = page["data"]
        if found:
            self._told = int(found[-1]["id"])
        if page["has_more"]:
            self._position = int(page["next_cursor"])
            self._stream.miss()
        else:
            self._position = int(page["last"])
        return b"".join(frame(each["id"], each["type"], each["event"]) for each in found)

    def _heard(self, seconds: float) -> bytes:
        """Return what was heard, all that is there; it is waited for ``seconds`` at most."""
        until = time.monotonic() + seconds
        pieces: list[bytes] = []
        size = 0
        while size < PIECE_BYTES:
            left = until - time.monotonic()
            passing = self._stream.next(seconds=0.0 if pieces else left)
            if passing is None:
                break
            if passing.sequence <= self._position:
                continue
            if passing.sequence != self._position + 1 or passing.frame is None:
                self._stream.miss()
                break
            self._position = passing.sequence
            if self._stream.wanted.has(passing):
                self._told = passing.sequence
                pieces.append(passing.frame)
                size += len(passing.frame)
            elif left <= 0:
                break
        return b"".join(pieces)

    def _heartbeat(self) -> bytes:
        """Show that we are there, and where it would go on: far behind what it has, where little is chosen."""
        if self._position == self._told:
            return b": \n\n"
        self._told = self._position
        return b": \nid: %d\n\n" % self._position

    def _page(self, after: str, *, limit: int) -> dict[str, Any]:
        wanted = self._stream.wanted
        page: dict[str, Any] = self._events.events(
            org_id=wanted.org_id, livemode=wanted.asker.livemode, after=after, limit=limit, **wanted.chosen
        )
        return page
