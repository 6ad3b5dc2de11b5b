"""How a name becomes addresses: by the machine's own resolver, without stopping anybody else."""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import eventlet
from eventlet import patcher, tpool

Resolve = Callable[[str, float], Sequence[str]]
Answers = Sequence[tuple[object, ...]] | OSError | UnicodeError

RESOLVED_AT_ONCE: Final = 8


class NameUnknown(Exception):
    """The name has no address, or none was told in time."""


class SystemResolver:
    """Asks the machine's own resolver, in a thread beside green threads, which one slow name would all stop.

    A name whose servers never answer holds its thread long after its caller has gone; so few are asked at once.
    """

    def __init__(self, *, at_once: int = RESOLVED_AT_ONCE) -> None:
        self._turns = threading.Semaphore(at_once)

    def __call__(self, host: str, seconds: float) -> list[str]:
        """Return the addresses of ``host``, within ``seconds``.

        Raises:
            NameUnknown: there are none, or the answer is late.
        """
        if not self._turns.acquire(timeout=seconds):
            raise NameUnknown("too many names are being looked up")
        if not patcher.is_monkey_patched("socket"):
            return _known(self._look_up(host, _outcome))
        asking = eventlet.spawn(self._look_up, host, lambda *asked: tpool.execute(_outcome, *asked))
        with eventlet.Timeout(seconds, NameUnknown("the name servers did not answer in time")):
            found: Answers = asking.wait()
        return _known(found)

    def _look_up(self, host: str, ask: Callable[..., Answers]) -> Answers:
        try:
            return ask(host, None, socket.AF_UNSPEC, socket.SOCK_STREAM)
        finally:
            self._turns.release()


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
