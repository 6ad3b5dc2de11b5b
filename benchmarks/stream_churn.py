"""Streams that come and go while events flow, and readers that take nothing and are sent away: what memory they leave.

What they are sent is not looked at: that none is lost or doubled is told by those who stay.
"""

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Sequence
from urllib.request import urlopen

from benchmarks import audit, children
from benchmarks.audit import AuditFailed
from benchmarks.growth import Readings
from benchmarks.stream_place import Place

OPENED_PER_SECOND = 40
KEPT = 400
# Large enough that what the system takes for a reader who takes nothing is soon full.
BUSY_ORGANIZATIONS, EVENTS_PER_SECOND, EVENT_BYTES = 2, 100, 4_000
BUSY_EVERY = 20
SLOW, SLOW_OPENED_PER_SECOND = 20, 1.0
WARM_UP_SHARE = 1 / 3
GONE_SECONDS = 30.0
_SLOW_BYTES = 4_096
_PIECE_BYTES = 65_536


def growth(place: Place, *, seconds: float) -> float:
    """Let streams come and go for ``seconds``; return by what share memory grew after the first third of that.

    Raises:
        AuditFailed: no slow reader was sent away, or streams stay open when everybody has left.
    """
    busy = [org_id for org_id, _ in place.accounts[:BUSY_ORGANIZATIONS]]
    orders = {"run": "churn", "count": int(EVENTS_PER_SECOND * seconds), "per_second": EVENTS_PER_SECOND}
    readings = Readings(place.gateway_rss)
    with (
        children.running(
            "benchmarks.contenders.idle_writer",
            log_folder=place.started.log_folder,
            **place.started.addresses(),
            **orders,
            org_ids=busy,
            padding=EVENT_BYTES,
        ) as writer,
        contextlib.ExitStack() as leaving,
    ):
        slow: list[socket.socket] = []
        leaving.callback(_close_all, slow)
        writer.tell("go")
        opened, sent_away = _come_and_go(place, readings, slow, seconds=seconds)
    _wait_until_gone(place)
    if not sent_away:
        raise AuditFailed(f"none of {SLOW} readers that take nothing was sent away within {seconds:.0f} s")
    found = readings.growth()
    print(
        f"   {opened:,} streams opened and closed within {seconds:.0f} s, {sent_away} slow readers sent away:"
        f" memory {readings.taken[0] >> 20} to {readings.taken[-1] >> 20} MiB after the warm-up   audit ok"
    )
    return found


def _close_all(streams: Iterable[socket.socket]) -> None:
    for each in streams:
        _close(each, abruptly=False)


def _come_and_go(place: Place, readings: Readings, slow: list[socket.socket], *, seconds: float) -> tuple[int, int]:
    """Open streams, read what they are sent and close the oldest, every second one by a reset.

    Return how many were opened, and how many slow readers were sent away meanwhile.
    """
    opened = sent_away = 0
    kept: deque[socket.socket] = deque()
    began = time.monotonic()
    with contextlib.ExitStack() as left:
        left.callback(_close_all, kept)
        while (passed := time.monotonic() - began) < seconds:
            while opened < passed * OPENED_PER_SECOND:
                kept.append(_opened(place, _account(place, opened)))
                opened += 1
                if len(kept) > KEPT:
                    _close(kept.popleft(), abruptly=opened % 2 == 0)
            _take(kept)
            if passed > seconds * WARM_UP_SHARE:
                readings.look()
            if len(slow) < min(SLOW, passed * SLOW_OPENED_PER_SECOND):
                slow.append(_slow_one(place, len(slow)))
            sent_away += _replace_ended(place, slow)
            time.sleep(0.05)
    return opened, sent_away


def _account(place: Place, number: int) -> tuple[str, str]:
    """Return whose the stream of this number is: a busy organization's now and then, one of the others' else."""
    busy, others = place.accounts[:BUSY_ORGANIZATIONS], place.accounts[BUSY_ORGANIZATIONS:]
    return busy[number // BUSY_EVERY % len(busy)] if number % BUSY_EVERY == 0 else others[number % len(others)]


def _slow_one(place: Place, number: int) -> socket.socket:
    """Open a stream of a busy organization that nobody reads."""
    return _opened(place, place.accounts[number % BUSY_ORGANIZATIONS], room=_SLOW_BYTES)


def _replace_ended(place: Place, slow: list[socket.socket]) -> int:
    """Let each slow reader whose connection was broken come back; return how many these are."""
    ended = 0
    for number, each in enumerate(slow):
        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            each.close()
            slow[number] = _slow_one(place, number)
            ended += 1
    return ended


def _opened(place: Place, account: tuple[str, str], *, room: int = 0) -> socket.socket:
    sock = socket.socket()
    if room:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.settimeout(GONE_SECONDS)
    sock.connect(("127.0.0.1", place.port))
    sock.sendall(
        f"GET /v1/events/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {account[1]}\r\n\r\n".encode()
    )
    sock.settimeout(0)
    return sock


def _take(kept: Sequence[socket.socket]) -> None:
    for sock in kept:
        with contextlib.suppress(OSError):
            while sock.recv(_PIECE_BYTES):
                pass


def _close(sock: socket.socket, *, abruptly: bool) -> None:
    if abruptly:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _wait_until_gone(place: Place) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (still := _metric(place, "darkroom_sse_clients")) and time.monotonic() < deadline:
        time.sleep(0.2)
    audit.check("streams open when everybody has left", found=int(still), expected=0)


def _metric(place: Place, name: str) -> float:
    port = place.programs["gateway"].ready_port
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=GONE_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)
