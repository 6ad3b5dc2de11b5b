"""Bodies that are sent piece by piece: what a slow source may take, and how a client learns that one broke off.

It knows neither routes nor sockets; whoever sends gives it a way to break the connection.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog

from shared import budget, logs
from shared.http_exchange import Stream

log = structlog.get_logger(__name__)


class Begun:
    """The pieces of a stream, the first of which is there already; each is made within its time.

    The first counts as part of the request, and has no more time than that has left.

    Making the first may raise whatever its source does; so does taking each further one, or TimeLimitExceeded.
    """

    def __init__(self, stream: Stream) -> None:
        self.leave = stream.leave
        self.sent_over = stream.sent_over
        self._pieces = _timed(stream)
        self._first = next(self._pieces, None)

    def __iter__(self) -> Iterator[bytes]:
        if self._first is not None:
            yield self._first
        yield from self._pieces

    def close(self) -> None:
        """Give back what the pieces come from."""
        self._pieces.close()


class Sending:
    """A body on its way: when it ends before it is complete, the connection is broken.

    Args:
        pieces: of the body; closed in the end, where they can be.
        request_id: of the request that is answered, for whatever is logged or called for it.
        done: called once in the end, with ``bytes`` and ``complete``.
        break_off: called where the body is not complete and its end would look like one that is.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        *,
        request_id: str,
        done: Callable[..., None],
        break_off: Callable[[], None] | None = None,
    ) -> None:
        self._pieces = pieces
        self._request_id = request_id
        self._done = done
        self._break_off = break_off
        self._bytes = 0
        self._complete = False

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._pieces)
        while (piece := self._next(pieces)) is not None:
            self._bytes += len(piece)
            yield piece
        self._complete = True

    def close(self) -> None:
        """Give back what the pieces come from, and tell how it ended."""
        close_pieces(self._pieces)
        if self._break_off and not self._complete:
            self._break_off()
        self._done(bytes=self._bytes, complete=self._complete)

    def _next(self, pieces: Iterator[bytes]) -> bytes | None:
        with logs.bound(request_id=self._request_id, correlation_id=self._request_id):
            try:
                return next(pieces, None)
            except Exception as error:
                log.exception("stream_broken", error_type=type(error).__name__)
                raise


def close_pieces(pieces: Any) -> None:
    """Close what a body's pieces come from, where that can be closed."""
    if hasattr(pieces, "close"):
        pieces.close()


def _timed(stream: Stream) -> Any:
    source = iter(stream.pieces)
    try:
        while True:
            seconds = budget.remaining_seconds(stream.piece_seconds)
            with budget.limited_to(seconds), budget.interrupted_after(seconds, "the next piece of the body"):
                piece = next(source, None)
            if piece is None:
                return
            yield piece
    finally:
        close_pieces(source)
