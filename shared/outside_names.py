"""How a name becomes addresses: by the machine's own resolver, without stopping anybody else."""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import eventlet
from eventlet import patcher, tpool

Resolve = Callable[[str, float], Sequence[str]]

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
            return self._look_up(host, socket.getaddrinfo)
        asking = eventlet.spawn(self._look_up, host, lambda *asked: tpool.execute(_getaddrinfo, *asked))
        with eventlet.Timeout(seconds, NameUnknown("the name servers did not answer in time")):
            found: list[str] = asking.wait()
        return found

    def _look_up(self, host: str, ask: Callable[..., Sequence[tuple[object, ...]]]) -> list[str]:
        try:
            found = ask(host, None, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameUnknown("the name is not known") from error
        finally:
            self._turns.release()
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))  # type: ignore[index]  # (address, port, …)


_getaddrinfo = patcher.original("socket").getaddrinfo
