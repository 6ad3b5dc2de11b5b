"""What happened: the log of events, page by page or as it goes on, and the story that is told of it."""

import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from darkroom_client import pages, retries
from darkroom_client.errors import DarkroomError, UnexpectedAnswer
from darkroom_client.models import Activity, LoggedEvent
from darkroom_client.transport import Transport

RESYNC = "resync"
# The server says something every 15 s, if only that it is there.
SILENT_SECONDS = 45.0
_RETRY_SECONDS = 3.0


class Resync(DarkroomError):
    """Events that were missed are kept no longer: look at everything anew, and go on after ``last``."""

    def __init__(self, *, oldest: str, last: str) -> None:
        text = f"events were missed that are kept no longer; look at everything anew, and go on after {last}"
        super().__init__(text, code="resync")
        self.oldest = oldest
        self.last = last


class Events:
    """``darkroom.events``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        after: str = "0",
        types: Sequence[str] | None = None,
        job_id: str | None = None,
        session_id: str | None = None,
        page_size: int = 50,
    ) -> Iterator[LoggedEvent]:
        """Yield what happened after an event (``0``: after the beginning), the oldest first, until now.

        Raises:
            Resync: what followed that event is kept no longer.
        """
        query = _filters(types=types, job_id=job_id, session_id=session_id)
        while True:
            page = self._transport.send("GET", "/v1/events", query={**query, "after": after, "limit": page_size}).body
            if page.get("resync"):
                raise Resync(oldest=page["oldest"], last=page["last"])
            yield from pages.items(page, model=LoggedEvent)
            cursor = pages.next_cursor(page)
            if cursor is None:
                return
            after = cursor

    def stream(
        self,
        *,
        after: str | None = None,
        types: Sequence[str] | None = None,
        job_id: str | None = None,
        session_id: str | None = None,
    ) -> Iterator[LoggedEvent]:
        """Yield what happens, as it happens, for good: a stream that breaks is gone on with where it was.

        Keep the ``id`` of what you have worked off, and begin ``after`` it next time; without it, this begins now.
        Close the iterator, or leave the loop, to stop.

        Raises:
            Resync: what followed ``after`` is kept no longer.
            DarkroomError: it was refused, or could not be reached for as long as the client tries anything.
        """
        query = _filters(types=types, job_id=job_id, session_id=session_id)
        seen, attempt = _Seen(after), 0
        give_up_at = time.monotonic() + self._transport.retry_seconds
        while True:
            try:
                yield from self._once(query, seen)
                pause = seen.retry_seconds * random.uniform(0.5, 1.5)  # noqa: S311  nothing secret
            except Resync:
                raise
            except DarkroomError as error:
                attempt = 1 if seen.reached else attempt + 1
                if seen.reached:
                    give_up_at = time.monotonic() + self._transport.retry_seconds
                pause = retries.pause_seconds(error, attempt=attempt)
                if not retries.may_succeed_later(error) or time.monotonic() + pause > give_up_at:
                    raise
            seen.reached = False
            time.sleep(pause)

    def activity(
        self,
        *,
        job_id: str | None = None,
        session_id: str | None = None,
        timezone: str | None = None,
        page_size: int = 50,
    ) -> Iterator[Activity]:
        """Yield what happened, in sentences with the time of day in ``timezone``, the newest first."""
        query = {"job": job_id, "session": session_id, "timezone": timezone}
        return pages.each(self._transport, "/v1/activity", model=Activity, page_size=page_size, query=query)

    def _once(self, query: dict[str, Any], seen: "_Seen") -> Iterator[LoggedEvent]:
        """Follow one stream until it ends."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if seen.last is not None:
            headers["Last-Event-ID"] = seen.last
        with self._transport.opened(
            "GET",
            self._transport.base_url + "/v1/events/stream",
            params={name: value for name, value in {**query, "after": seen.last}.items() if value is not None},
            headers=headers,
            silent_seconds=SILENT_SECONDS,
        ) as answer:
            kind = answer.headers.get("Content-Type", "")
            if not kind.startswith("text/event-stream"):
                raise UnexpectedAnswer(f"expected a stream of events, not {kind}", code="unexpected_answer")
            seen.reached = True
            # A chunk is there as soon as it has come; what comes without any (HTTP/1.0) is waited for to its end if not
            # taken byte by byte.
            pieces = answer.iter_content(None if getattr(answer.raw, "chunked", False) else 1)
            yield from _events(_lines(pieces), seen)


class _Seen:
    """Up to where a stream was read, whether it was there this time, and when to come back."""

    def __init__(self, after: str | None) -> None:
        self.last = after
        self.reached = False
        self.retry_seconds = _RETRY_SECONDS


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines in what comes, without their ends; one that does not end is none.

    Not ``iter_lines``: that takes a line apart anew with each piece of it, for minutes where one has a megabyte.
    """
    begun: list[bytes] = []
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            yield b"".join([*begun, end]).removesuffix(b"\r")
            begun.clear()
        if rest:
            begun.append(rest)


def _events(lines: Iterable[bytes], seen: _Seen) -> Iterator[LoggedEvent]:
    """Yield the events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    What is read counts as seen only when the next one is asked for: who stops in between gets it again.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.decode().partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            continue
        if fields.get("retry", "").isdigit():
            seen.retry_seconds = int(fields["retry"]) / 1000
        if "data" in fields:
            yield _read(fields)
        seen.last = fields.get("id", seen.last)
        fields = {}


def _read(fields: dict[str, str]) -> LoggedEvent:
    try:
        data = json.loads(fields["data"])
        if fields.get("event") == RESYNC:
            raise Resync(oldest=data["oldest"], last=data["last"])
        known = {"id": fields["id"], "type": fields["event"], "time": data["time"], "event": data}
    except (ValueError, KeyError, TypeError) as error:
        raise UnexpectedAnswer(f"an event of the stream is misshapen: {error}", code="unexpected_answer") from error
    return LoggedEvent.from_json(known)


def _filters(*, types: Sequence[str] | None, job_id: str | None, session_id: str | None) -> dict[str, Any]:
    return {"types": ",".join(types) if types else None, "job": job_id, "session": session_id}
