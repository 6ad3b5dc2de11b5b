"""What a client that follows the log is sent: first what the log has, then what is heard, no event left out or twice.

The rule (docs/notifications.md): listen first, read the log until its end, then pass on what was heard with a higher
number; where a number is not the next one, read again.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import structlog

from services.gateway.passing import frame
from services.gateway.streams import OpenStream
from shared import budget
from shared.budget import TimeLimitExceeded
from shared.http_schemas import error_at
from shared.problems import BadRequest, Unavailable

log = structlog.get_logger(__name__)

# 15 are promised; before it is due, one look into the log that gets no answer, and the rest after it, may be under way.
HEARTBEAT_SECONDS: Final = 12.0
LOG_WITHIN_SECONDS: Final = 2.0
PIECE_SECONDS: Final = 30.0
PAGE: Final = 100
PAGE_BYTES: Final = 128_000
PIECE_BYTES: Final = 64_000
LOG_AWAY_SECONDS: Final = 1.0
BEGIN_WITHIN_SECONDS: Final = 0.5
_RETRY_MS: Final = (1_000, 5_000)
_DIGITS_MAX: Final = 18
_BEYOND: Final = "9" * _DIGITS_MAX  # after the end of any log: what is read is how far it goes, and no event
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
        stream.over = True


class _Follower:
    """Where one client stands in the log: ``position`` is what it need not be told any more."""

    def __init__(self, stream: OpenStream, events: Any) -> None:
        self._stream = stream
        self._events = events
        self._position = 0
        self._told = 0  # the id that the client knows
        self._limit = PAGE

    def pieces(self, heartbeat_seconds: float) -> Iterator[bytes]:
        piece = _preamble() + self._beginning()
        due = time.monotonic() + heartbeat_seconds
        while not self._stream.closed:  # also by now: what was read meanwhile is not for who may have it no longer
            if piece:
                yield piece
                due = time.monotonic() + heartbeat_seconds
            left = due - time.monotonic()
            piece = self._from_log(left) if self._stream.behind else self._heard(left)
            if not piece and time.monotonic() >= due:
                piece = self._heartbeat()

    def _beginning(self) -> bytes:
        after = self._stream.wanted.after
        if after is None:
            with self._stream.turn_to_read():
                self._position = self._told = int(self._page(_BEYOND)["last"])
            return _place(self._position)  # or who is cut off before the first event would begin anew, and miss it
        self._position = self._told = int(after)
        turn = self._stream.turn_to_read(seconds=BEGIN_WITHIN_SECONDS)
        try:
            with turn:
                self._stream.begin_to_catch_up()
                return self._of_page(self._page(after))
        except Unavailable:
            if turn.called:
                raise
            self._stream.miss()  # many begin at once: it is let in, and gets its backlog when it is its turn
            return b""

    def _from_log(self, seconds: float) -> bytes:
        """Return what the log has next; a turn to look is waited for ``seconds`` at most."""
        turn = self._stream.turn_to_read(seconds=max(0.0, seconds))
        try:
            with turn:
                self._stream.begin_to_catch_up()  # not before it is its turn: what is heard meanwhile is in the page
                return self._of_page(self._page(str(self._position)))
        except (Unavailable, TimeLimitExceeded) as error:
            self._stream.miss()
            if turn.called:
                log.warning("stream_waits_for_the_log", error_type=type(error).__name__)
                self._stream.rest(LOG_AWAY_SECONDS)
            return b""

    def _of_page(self, page: Mapping[str, Any]) -> bytes:
        if page["resync"]:
            self._position = self._told = int(page["last"])
            # What is heard meanwhile goes on from there; what is in this page is part of what is to be looked at anew.
            return frame(page["last"], "resync", {"oldest": page["oldest"], "last": page["last"]})
        frames = self._fitting(page["data"])
        if frames:
            self._told = int(page["data"][len(frames) - 1]["id"])
        if page["has_more"] or len(frames) < len(page["data"]):
            self._position = self._told
            self._stream.miss()
        else:
            self._position = int(page["last"])
        return b"".join(frames)

    def _fitting(self, found: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Return the first events, as many as may lie here for a client that is slow to take them; ask for no more.

        A thousand of those must not hold a thousand pages of the largest events there are.
        """
        frames: list[bytes] = []
        size = 0
        for each in found:
            made = frame(each["id"], each["type"], each["event"])
            size += len(made)
            if frames and size > PAGE_BYTES:
                break
            frames.append(made)
        self._limit = min(PAGE, 2 * self._limit) if len(frames) == len(found) else len(frames)
        return frames

    def _heard(self, seconds: float) -> bytes:
        """Return what was heard, all that is there; it is waited for ``seconds`` at most."""
        until = time.monotonic() + seconds
        frames: list[bytes] = []
        size = 0
        while size < PIECE_BYTES:
            left = until - time.monotonic()
            passing = self._stream.next(seconds=0.0 if frames else left)
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
                frames.append(passing.frame)
                size += len(passing.frame)
            elif left <= 0:
                break
        return b"".join(frames)

    def _heartbeat(self) -> bytes:
        """Show that we are there, and where it would go on: far behind what it has, where little is chosen."""
        if self._position == self._told:
            return b": \n\n"
        self._told = self._position
        return b": \n" + _place(self._position)

    def _page(self, after: str) -> dict[str, Any]:
        wanted = self._stream.wanted
        with budget.limited_to(LOG_WITHIN_SECONDS):
            page: dict[str, Any] = self._events.events(
                org_id=wanted.org_id, livemode=wanted.asker.livemode, after=after, limit=self._limit, **wanted.chosen
            )
        return page


def _preamble() -> bytes:
    """Say when to come back: not all at once, where many are sent away together."""
    return b"retry: %d\n\n" % _jitter.randint(*_RETRY_MS)


def _place(position: int) -> bytes:
    """Say where to go on from, without an event."""
    return b"id: %d\n\n" % position
