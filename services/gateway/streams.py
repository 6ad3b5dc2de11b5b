"""The streams of events that are open in this process, and what was heard for each that it was not sent yet.

It knows neither sockets nor the log: `services.gateway.following` makes of a stream what a client is sent.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog

from services.gateway import metrics
from services.gateway.turns import Line
from shared.events import EventRecorded
from shared.http import Principal
from shared.http_problems import ReducedCapacity
from shared.problems import Problem

log = structlog.get_logger(__name__)

HEARD_MAX: Final = 1_000
# How many look into the log at once: when all come back together, each is answered as soon as if few had come.
READERS: Final = 16
READERS_OF_ORGANIZATION: Final = 4
READ_WITHIN_SECONDS: Final = 20.0
SLOW_SECONDS: Final = 5.0
PER_ORGANIZATION: Final = 100
IN_ALL: Final = 2_000


class TooManyStreams(Problem):
    """The organization follows its events in as many places as it may, in one process of ours."""

    status = 429
    code = "too_many_streams"
    title = "Too many streams of events are open"
    remedy = "Close a stream that you no longer read, or share one among those who do."
    retryable = True


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A stream that is asked for, by whom, from where (None: from now on), and which events it has.

    ``chosen`` is ``{types, session_id, job_id}``. ``recheck`` says whose a credential that has no row of ours is now,
    and raises a Problem where it is good no longer.
    """

    asker: Principal
    org_id: str
    after: str | None
    chosen: Mapping[str, Any]
    recheck: Callable[[], Principal] | None = None

    def has(self, passing: "Passing") -> bool:
        """Tell whether an event is one of those."""
        types, session_id, job_id = (self.chosen[name] for name in ("types", "session_id", "job_id"))
        return (
            passing.livemode == self.asker.livemode
            and (types is None or passing.type in types)
            and (session_id is None or passing.session_id == session_id)
            and (job_id is None or passing.job_id == job_id)
        )


@dataclass(frozen=True, kw_only=True)
class Passing:
    """An event as it passes, written out once for all who get it; None where only the log has it."""

    sequence: int
    type: str
    frame: bytes | None
    livemode: bool
    job_id: str | None
    session_id: str | None
    at: float = field(default_factory=time.monotonic)


def frame(sequence: int | str, kind: str, data: object) -> bytes:
    """Return one server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(sequence).encode(), kind.encode(), msgspec.json.encode(data))


class OpenStream:
    """One client's stream. ``behind`` says that only the log has all that follows."""

    def __init__(self, streams: "Streams", wanted: Wanted, *, heard_max: int = HEARD_MAX) -> None:
        self.wanted = wanted
        self.behind = False
        self.closed = False
        self._streams = streams
        self._heard: deque[Passing] = deque()
        self._heard_max = heard_max
        self._news = threading.Event()

    def turn_to_read(self, *, seconds: float | None = None) -> AbstractContextManager[None]:
        """Wait for a turn to look into the log, ``seconds`` at most where they are given; keep it for the block.

        Raises:
            Unavailable: by the block's begin, where there was none in time.
        """
        return self._streams.readers.place_of(self.wanted.org_id, seconds=seconds)

    def open(self) -> None:
        """Be one of those that hear what passes.

        Raises:
            TooManyStreams: the organization has as many as it may.
            ReducedCapacity: the process has.
        """
        if not self.closed:
            self._streams.add(self)

    def close(self, reason: str | None = None) -> None:
        """Come to an end, once what is being sent has been; doing so again changes nothing."""
        if not self.closed:
            self.closed = True
            if reason:
                metrics.sse_ended.labels(reason).inc()
                log.info("stream_ended", org_id=self.wanted.org_id, principal_id=self.wanted.asker.id, reason=reason)
        self._streams.remove(self)
        self._news.set()

    def hear(self, passing: Passing) -> None:
        """Keep an event until it is sent; a client that does not take what it is sent is sent away."""
        if len(self._heard) >= self._heard_max:
            if passing.at - self._heard[0].at > SLOW_SECONDS:
                self.close("slow")
            else:
                self.miss()
        elif not self.behind:
            self._heard.append(passing)
            self._news.set()

    def miss(self) -> None:
        """Take note that what follows has to be read from the log."""
        self.behind = True
        self._heard.clear()
        self._news.set()

    def begin_to_catch_up(self) -> None:
        """Keep what is heard from now on: whoever reads the log after this has all before."""
        self._heard.clear()
        self.behind = False

    def next(self, *, seconds: float) -> Passing | None:
        """Return the next event that was heard, after ``seconds`` at most; None where there is none, or an end."""
        self._news.clear()
        if not self._heard and not self.behind and not self.closed and seconds > 0:
            self._news.wait(seconds)
        return self._heard.popleft() if self._heard else None

    def rest(self, seconds: float) -> None:
        """Wait, unless the end comes."""
        self._news.clear()
        if not self.closed:
            self._news.wait(seconds)


class Streams:
    """Every open stream of the process: told of what passes, bounded in number, ended with their credentials."""

    def __init__(self, *, per_organization: int = PER_ORGANIZATION, in_all: int = IN_ALL) -> None:
        self._per_organization = per_organization
        self._in_all = in_all
        self._open: dict[str, set[OpenStream]] = defaultdict(set)
        self._count = 0
        self.readers = Line(
            places=READERS,
            per_organization=READERS_OF_ORGANIZATION,
            in_line=in_all,
            seconds=READ_WITHIN_SECONDS,
            refusal="Too many are looking into the log of events; try again in a moment.",
        )

    def open(self, wanted: Wanted) -> OpenStream:
        """Return a stream, which hears nothing before it is opened."""
        return OpenStream(self, wanted)

    def add(self, stream: OpenStream) -> None:
        """Let a stream hear what passes.

        Raises:
            TooManyStreams, ReducedCapacity: there are too many already.
        """
        of_organization = self._open[stream.wanted.org_id]
        if len(of_organization) >= self._per_organization:
            raise TooManyStreams(
                f"An organization follows its events in {self._per_organization} places at most.", retry_after=10
            )
        if self._count >= self._in_all:
            raise ReducedCapacity("Too many streams of events are open; try again in a moment.", retry_after=5)
        of_organization.add(stream)
        self._note(1)

    def remove(self, stream: OpenStream) -> None:
        """Forget a stream."""
        of_organization = self._open.get(stream.wanted.org_id, set())
        if stream in of_organization:
            of_organization.remove(stream)
            self._note(-1)
        if not of_organization:
            self._open.pop(stream.wanted.org_id, None)

    def heard(self, event: EventRecorded) -> None:
        """Tell every stream of its organization of an event that was recorded."""
        listening = self._open.get(event.org_id)
        if listening:
            passing = _passing(event)
            for stream in list(listening):
                stream.hear(passing)

    def missed(self) -> None:
        """Let every stream look into the log: events may have passed that nobody heard."""
        for stream in self.all():
            stream.miss()

    def all(self) -> list[OpenStream]:
        """Return every open stream."""
        return [stream for streams in list(self._open.values()) for stream in list(streams)]

    def end(self, streams: Iterable[OpenStream], *, reason: str) -> None:
        """End some of them."""
        for stream in streams:
            stream.close(reason)

    def _note(self, more: int) -> None:
        self._count += more
        metrics.sse_clients.set(self._count)


def _passing(event: EventRecorded) -> Passing:
    data: Any = (event.event or {}).get("data", {})
    return Passing(
        sequence=event.orgsequence,
        type=event.type,
        frame=None if event.event is None else frame(event.orgsequence, event.type, event.event),
        livemode=data.get("livemode", True),
        job_id=event.job_id,
        session_id=event.session_id,
    )


def credentials_of(streams: Collection[OpenStream]) -> dict[str, set[str]]:
    """Return the ids of what the streams were opened with: ``{key: …, session: …}``."""
    known: dict[str, set[str]] = {"key": set(), "session": set()}
    for stream in streams:
        asker = stream.wanted.asker
        if asker.kind == "key":
            known["key"].add(asker.id)
        elif asker.session_id:
            known["session"].add(asker.session_id)
    return known
