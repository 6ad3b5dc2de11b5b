"""What a route's handler is given and what it gives back; the shapes every other part of the HTTP side speaks in."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from io import BytesIO
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qsl

from werkzeug.datastructures import EnvironHeaders, MultiDict

from shared.http_aliases import Alias
from shared.http_limits import Limits, counted_as
from shared.http_problems import Quota


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks, as the credential says: ``kind`` is ``key``, ``session``, ``oidc`` or ``admin``.

    An administrator has no organization. ``livemode`` is False for a test key, which sees and makes only what test keys
    have made; all others are live. ``role`` is the person's in the organization. ``scopes`` and ``workflows`` narrow
    what a key may do; ``workflows`` is None where it may ask for all. Of credits it may use ``daily_cap`` in a day,
    counted for all keys with its ``cap_id``; None is any number. ``expires_at`` is when it ends, ``replaced`` that it
    does so only since an endless one took its place. ``session_id`` is the session's where one was shown; ``features``
    are those switched on for the organization.
    """

    kind: str
    id: str
    name: str
    org_id: str | None = None
    user_id: str | None = None
    livemode: bool = True
    role: str | None = None
    scopes: frozenset[str] = frozenset()
    workflows: frozenset[str] | None = None
    daily_cap: int | None = None
    cap_id: str | None = None
    expires_at: datetime | None = None
    replaced: bool = False
    session_id: str | None = None
    features: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Request:
    """One request. ``query`` and ``body`` are what the route's schemas made of it; ``claim`` is its guard's.

    ``address`` is the client's, without its port; the request is counted for ``counted_as``, ``limits`` say by what,
    and ``quotas`` what is left. ``alias`` is the address of before that it came to, if it did.
    """

    method: str
    path: str
    query_string: str
    headers: EnvironHeaders
    request_id: str
    path_values: Mapping[str, Any] = field(default_factory=dict)
    alias: Alias | None = None
    content: BinaryIO | None = None
    principal: Principal | None = None
    query: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    claim: Any = None
    address: str = "unknown"
    limits: Limits | None = None
    quotas: list[Quota] = field(default_factory=list)

    @cached_property
    def counted_as(self) -> str:
        """Return whom the request is counted for: an IPv4 address, or all that one customer of a network has."""
        return counted_as(self.address)

    @property
    def full_path(self) -> str:
        """Return the path with its query, as it was asked for."""
        return f"{self.path}?{self.query_string}" if self.query_string else self.path

    @cached_property
    def raw(self) -> bytes:
        """Return the body's bytes."""
        file = self.content or BytesIO()
        file.seek(0)
        return file.read()

    @property
    def asker(self) -> Principal:
        """Return who asks; only for routes that want a credential."""
        if self.principal is None:
            raise LookupError(f"{self.method} {self.path} was let in without a credential")
        return self.principal

    @property
    def org_id(self) -> str:
        """Return the organization of who asks; only for routes whose credentials have one."""
        if self.asker.org_id is None:
            raise LookupError(f"{self.method} {self.path} was let in without an organization")
        return self.asker.org_id

    @property
    def owner(self) -> dict[str, Any]:
        """Return whose things a request is about, ``{org_id, livemode}``: a test key's are apart from all others."""
        return {"org_id": self.org_id, "livemode": self.asker.livemode}

    def query_parameters(self) -> MultiDict[str, str]:
        """Return the query's parameters as they came."""
        return MultiDict(parse_qsl(self.query_string, keep_blank_values=True))


class Wire(Protocol):
    """The connection that an answer is sent over, as another green thread may look at it."""

    def cut(self) -> None:
        """Break it at once, whatever the client has not taken yet."""

    def is_gone(self) -> bool:
        """Tell whether the client has hung up; by writing one learns that late."""

    def hold_little(self) -> None:
        """Let the system take little of what the client does not: it would take megabytes, and hide that it is slow."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A body that is made while it is sent, so that nobody knows its length: an export, an archive, events.

    The first of ``pieces`` is made before the answer begins, within the route's time: what that raises is answered as
    a problem. What a later one raises breaks the connection, so that nobody takes a part for the whole. Each may take
    ``piece_seconds``, and the next is made when the client has taken the one before. A generator is closed in the end,
    however it ends. ``leave`` is called when the process is about to end, for pieces that would go on: they have to end
    soon after. ``sent_over`` is told of the connection as it begins.
    """

    pieces: Iterable[bytes]
    piece_seconds: float = 5.0
    leave: Callable[[], None] | None = None
    sent_over: Callable[[Wire], None] | None = None


@dataclass(frozen=True)
class Answer:
    """What is answered.

    ``body`` is JSON (dict, list), bytes, pieces of bytes with a Content-Length, a `Stream`, or nothing.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        """Return the same answer with more headers."""
        return Answer(self.status, self.body, {**self.headers, **headers})


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A request that waits for an outcome without holding a worker.

    ``poll`` is called now and then, in the connection's own green thread, until it returns an answer; ``first`` is
    answered when it does not within ``seconds``, or at once where too many wait already. ``waiter`` is whom to
    count it for.
    """

    first: Answer
    poll: Callable[[], Answer | None]
    seconds: float
    waiter: str


Outcome = Answer | Waiting


class WaitingRoom:
    """Lets a bounded number of requests wait: polls for each, and sends all home when the process drains."""

    def __init__(self, *, sleep: Callable[[float], Any], per_waiter: int = 2, in_all: int = 200) -> None:
        self._sleep = sleep
        self._per_waiter = per_waiter
        self._in_all = in_all
        self._waiting: list[str] = []
        self._closed = False

    def close(self) -> None:
        """Answer everybody within a second, and let nobody wait from now on."""
        self._closed = True

    def wait(self, waiting: Waiting, *, now: Callable[[], float]) -> Answer:
        """Return the first answer ``waiting.poll`` gives, or ``waiting.first``. An exception of poll passes through."""
        if not self._has_room_for(waiting.waiter):
            return waiting.first
        deadline = now() + waiting.seconds
        pause = 0.1
        with self._seat(waiting.waiter):
            while not self._closed and (left := deadline - now()) > 0:
                self._sleep(min(pause, left))
                pause = min(pause * 1.5, 1.0)
                answer = waiting.poll()
                if answer is not None:
                    return answer
        return waiting.first

    def _has_room_for(self, waiter: str) -> bool:
        return not self._closed and len(self._waiting) < self._in_all and self._waiting.count(waiter) < self._per_waiter

    @contextlib.contextmanager
    def _seat(self, waiter: str) -> Iterator[None]:
        self._waiting.append(waiter)
        try:
            yield
        finally:
            self._waiting.remove(waiter)
