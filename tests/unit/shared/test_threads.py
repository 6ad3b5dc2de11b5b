"""C code in a thread: the hub goes on, exceptions come back, and only so many are at it at once."""

import time

import eventlet
import pytest

from services.gateway import passwords
from shared import threads
from shared.problems import Unavailable
from shared.threads import in_a_thread


def test_green_threads_go_on_while_a_password_is_hashed():
    turns = []

    def count():
        while True:
            turns.append(1)
            eventlet.sleep(0)

    counting = eventlet.spawn(count)
    eventlet.sleep(0)
    before = len(turns)
    passwords.hashed("correct horse battery")
    during = len(turns) - before
    counting.kill()

    assert during > 10


def test_what_is_raised_in_the_thread_comes_back():
    with pytest.raises(ZeroDivisionError):
        in_a_thread(divmod, 1, 0)


def test_who_would_wait_too_long_is_sent_away(monkeypatch):
    monkeypatch.setattr(threads, "WAIT_SECONDS", 0.05)
    release = eventlet.patcher.original("threading").Event()
    busy = [eventlet.spawn(in_a_thread, release.wait) for _ in range(threads.AT_ONCE)]
    eventlet.sleep(0.01)

    started = time.monotonic()
    with pytest.raises(Unavailable):
        in_a_thread(divmod, 1, 1)
    waited = time.monotonic() - started
    release.set()
    for one in busy:
        one.wait()

    assert waited < 1
    assert in_a_thread(divmod, 7, 2) == (3, 1)
