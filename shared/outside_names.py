"""How a name becomes addresses: by the machine's own resolver, without stopping anybody else."""

import socket
import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from eventlet import patcher, tpool

from shared.line import Line, Place
from shared.problems import Unavailable

Answers = Sequence[tuple[object, ...]] | OSError | UnicodeError

RESOLVED_AT_ONCE: Final = 8
RESOLVED_OF_ONE: Final = 2
TURN_SECONDS: Final = 5.0
# What was asked for so long got no answer, however it ended; and who asks for less learns nothing about a name.
SILENT_AFTER_SECONDS: Final = 4.0
SILENT_SECONDS: Final = 30.0
_IN_LINE: Final = 100
_SILENT_MOST: Final = 1_000


class NameUnknown(Exception):
    """The name has no address, or its servers told none in time."""


class NoTurn(Exception):
    """So many other names are being looked up that this one was not: nothing is known of it."""


class Resolve(Protocol):
    """A way to look a name up."""

    def __call__(self, host: str, seconds: float, *, whose: str = "") -> Sequence[str]:
        """Return the addresses of ``host``, within ``seconds``; what is ``whose`` shares few look-ups at a time.

        Raises:
            NameUnknown: there are none, or the answer is late.
            NoTurn: too many look-ups are under way.
        """


class SystemResolver:
    """Asks the machine's own resolver, in a thread beside green threads, which one slow name would all stop.

    A name whose servers never answer holds its thread long after its caller has gone. So few are asked at once, fewer
    of them for one organization (each name by itself where nobody says whose), each name once however many want it,
    and one that got no answer not again for a while.
    """

    def __init__(self, *, at_once: int = RESOLVED_AT_ONCE, of_one: int = RESOLVED_OF_ONE) -> None:
        self._line = Line(
            places=at_once, of_one=of_one, in_line=_IN_LINE, seconds=TURN_SECONDS, refusal="Too many names."
        )
        self._under_way: dict[str, _LookUp] = {}
        self._silent_until: dict[str, float] = {}

    def __call__(self, host: str, seconds: float, *, whose: str = "") -> list[str]:
        """Return the addresses of ``host``; see `Resolve`."""
        until = time.monotonic() + seconds
        under_way = self._under_way.get(host) or self._asked(host, whose or host, seconds=min(seconds, TURN_SECONDS))
        answers = under_way.answers(seconds=until - time.monotonic())
        if answers is None:
            self._note(under_way)
            raise NameUnknown("the name servers did not answer in time")
        return _known(answers)

    def _asked(self, host: str, whose: str, *, seconds: float) -> "_LookUp":
        """Return a look-up of ``host``, which begins when it is its turn, or which somebody else began meanwhile."""
        self._require_no_silence(host)
        place = self._line.place_of(whose, seconds=seconds)
        try:
            place.take()
        except Unavailable:
            raise NoTurn(host) from None
        begun: _LookUp | None = None
        try:
            self._require_no_silence(host)
            begun = self._under_way.get(host) or self._begin(host, place)
        finally:
            if begun is None or begun.place is not place:
                place.leave()
        return begun

    def _begin(self, host: str, place: Place) -> "_LookUp":
        begun = self._under_way[host] = _LookUp(host, place)
        threading.Thread(target=self._look_up, args=(begun,), daemon=True).start()
        return begun

    def _look_up(self, begun: "_LookUp") -> None:
        try:
            begun.ask()
        finally:
            del self._under_way[begun.host]
            begun.place.leave()
            self._note(begun)

    def _require_no_silence(self, host: str) -> None:
        if time.monotonic() < self._silent_until.get(host, 0.0):
            raise NameUnknown("the name servers gave no answer a moment ago")

    def _note(self, look_up: "_LookUp") -> None:
        """Remember a name that nobody has told anything of for long."""
        now = time.monotonic()
        if look_up.has_found() or now - look_up.since < SILENT_AFTER_SECONDS:
            return
        if len(self._silent_until) >= _SILENT_MOST:
            self._silent_until = {name: until for name, until in self._silent_until.items() if until > now}
        self._silent_until[look_up.host] = now + SILENT_SECONDS


class _LookUp:
    """One name that is being asked for, by however many."""

    def __init__(self, host: str, place: Place) -> None:
        self.host = host
        self.place = place
        self.since = time.monotonic()
        self._answers: Answers | None = None
        self._done = threading.Event()

    def ask(self) -> None:
        """Ask, and tell everybody who waits."""
        asked = (self.host, None, socket.AF_UNSPEC, socket.SOCK_STREAM)
        green = patcher.is_monkey_patched("socket")
        try:
            self._answers = tpool.execute(_outcome, *asked) if green else _outcome(*asked)
        finally:
            self._done.set()

    def has_found(self) -> bool:
        """Tell whether there are addresses."""
        return self._answers is not None and not isinstance(self._answers, OSError | UnicodeError)

    def answers(self, *, seconds: float) -> Answers | None:
        """Return what was answered, None where nothing was after ``seconds``."""
        self._done.wait(max(0.0, seconds))
        return self._answers


_getaddrinfo = patcher.original("socket").getaddrinfo


def _outcome(*asked: object) -> Answers:
    """Return the error instead of raising it: threads and green threads print a traceback of what is raised there."""
    try:
        found: Answers = _getaddrinfo(*asked)
    except (OSError, UnicodeError) as error:
        return error
    return found


def _known(found: Answers) -> list[str]:
    if isinstance(found, OSError | UnicodeError):
        raise NameUnknown("the name is not known") from found
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))  # type: ignore[index]  # (address, port, …)
