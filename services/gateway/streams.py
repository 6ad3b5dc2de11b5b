"""The streams of events that are open in this process, and what was heard for each that it was not sent yet.

It knows neither sockets nor the log: `services.gateway.following` makes of a stream what a client is sent.
"""

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable
from typing import Final

import structlog

from services.gateway import metrics
from services.gateway.passing import Passing, Wanted, passing_of
from shared.events import EventRecorded
from shared.http import Wire
from shared.http_problems import ReducedCapacity
from shared.line import Line, Place
from shared.problems import Problem

log = structlog.get_logger(__name__)

HEARD_MAX: Final = 1_000
# How many look into the log at once: when all come back together, each is answered as soon as if few had come.
READERS: Final = 16
READERS_OF_ORGANIZATION: Final = 4
READ_WITHIN_SECONDS: Final = 20.0
SLOW_SECONDS: Final = 5.0
PER_ORGANIZATION: Final = 100
PER_PRINCIPAL: Final = 25
IN_ALL: Final = 2_000


class TooManyStreams(Problem):
    """An organization, or one of those who ask for it, follows its events in as many places of ours as it may."""

    status = 429
    code = "too_many_streams"
    title = "Too many streams of events are open"
    remedy = "Close a stream that you no longer read, or share one among those who do."
    retryable = True


class OpenStream:
    """One client's stream. ``behind`` says that only the log has all that follows, ``over`` that nothing is sent."""

    def __init__(self, streams: "Streams", wanted: Wanted, *, heard_max: int = HEARD_MAX) -> None:
        self.wanted = wanted
        self.behind = False
        self.closed = False
        self.over = False
        self._streams = streams
        self._heard: deque[Passing] = deque()
        self._heard_max = heard_max
        self._news = threading.Event()
        self._turn: Place | None = None
        self._wire: Wire | None = None

    def turn_to_read(self, *, seconds: float | None = None) -> Place:
        """Return a turn to look into the log: waited for ``seconds`` at most where they are given, or until the end."""
        self._turn = self._streams.readers.place_of(self.wanted.org_id, seconds=seconds)
        if self.closed:
            self._turn.give_up()
        return self._turn

    def open(self) -> None:
        """Be one of those that hear what passes.

        Raises:
            TooManyStreams: the organization, or who asks, has as many as it may.
            ReducedCapacity: the process has.
        """
        if not self.closed:
            self._streams.add(self)

    def sent_over(self, wire: Wire) -> None:
        """Take note of the connection it is sent over."""
        self._wire = wire
        wire.hold_little()

    def cut(self) -> None:
        """Break the connection, whatever the client has not taken yet."""
        if self._wire and not self.over:
            log.info("stream_cut", org_id=self.wanted.org_id, principal_id=self.wanted.asker.id)
            self._wire.cut()

    def is_left(self) -> bool:
        """Tell whether its client has hung up."""
        return self._wire is not None and not self.over and self._wire.is_gone()

    def close(self, reason: str | None = None) -> None:
        """Come to an end, once what is being sent has been; doing so again changes nothing."""
        if not self.closed:
            self.closed = True
            if reason:
                metrics.sse_ended.labels(reason).inc()
                log.info("stream_ended", org_id=self.wanted.org_id, principal_id=self.wanted.asker.id, reason=reason)
                self._streams.ended(self)
        self._streams.remove(self)
        self._heard.clear()
        self._news.set()
        if self._turn:
            self._turn.give_up()

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

    def __init__(
        self,
        *,
        per_organization: int = PER_ORGANIZATION,
        per_principal: int = PER_PRINCIPAL,
        in_all: int = IN_ALL,
    ) -> None:
        self._per_organization = per_organization
        self._per_principal = per_principal
        self._in_all = in_all
        self._open: dict[str, set[OpenStream]] = defaultdict(set)
        self._of_principal: Counter[str] = Counter()
        self._count = 0
        self._ended: list[OpenStream] = []
        self.readers = Line(
            places=READERS,
            of_one=READERS_OF_ORGANIZATION,
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
        if self._refusal_of(stream):  # who comes back in a hurry may find its own stream of before in its way
            self.let_go(list(self._open.get(stream.wanted.org_id, ())))
        refusal = self._refusal_of(stream)
        if refusal:
            raise refusal
        self._open[stream.wanted.org_id].add(stream)
        self._note(stream, 1)

    def _refusal_of(self, stream: OpenStream) -> Problem | None:
        """Return why there is no room for a stream, None where there is."""
        if len(self._open.get(stream.wanted.org_id, ())) >= self._per_organization:
            text = f"An organization follows its events in {self._per_organization} places at most."
            return TooManyStreams(text, retry_after=10)
        if self._of_principal[stream.wanted.asker.id] >= self._per_principal:
            text = f"One key, or one person, follows events in {self._per_principal} places at most."
            return TooManyStreams(text, retry_after=10)
        if self._count >= self._in_all:
            return ReducedCapacity("Too many streams of events are open; try again in a moment.", retry_after=5)
        return None

    def let_go(self, streams: Collection[OpenStream]) -> None:
        """Close those of them whose clients have hung up."""
        for stream in streams:
            if stream.is_left():
                stream.close()

    def remove(self, stream: OpenStream) -> None:
        """Tell a stream nothing any more."""
        of_organization = self._open.get(stream.wanted.org_id, set())
        if stream in of_organization:
            of_organization.remove(stream)
            self._note(stream, -1)
        if not of_organization:
            self._open.pop(stream.wanted.org_id, None)

    def heard(self, event: EventRecorded) -> None:
        """Tell every stream of its organization of an event that was recorded."""
        listening = self._open.get(event.org_id)
        if listening:
            passing = passing_of(event)
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

    def ended(self, stream: OpenStream) -> None:
        """Take note of one that we have ended."""
        self._ended.append(stream)

    def cut_off(self) -> None:
        """Break the connections of those that were ended since this was called last, and have not taken what was begun.

        Whoever takes it in drops, or not at all, would else keep theirs for a minute.
        """
        for stream in self._ended:
            stream.cut()
        self._ended.clear()

    def _note(self, stream: OpenStream, more: int) -> None:
        self._count += more
        self._of_principal[stream.wanted.asker.id] += more
        if not self._of_principal[stream.wanted.asker.id]:
            del self._of_principal[stream.wanted.asker.id]
        metrics.sse_clients.set(self._count)
