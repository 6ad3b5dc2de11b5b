"""Looking names up: name servers that answer nothing hold up nobody but those who ask for their names."""

import socket
import threading
import time

import pytest
from eventlet import patcher

from shared import outside_names
from shared.outside import Outside, UrlRefused
from shared.outside_names import NameUnknown, NoTurn, SystemResolver
from shared.problems import Unavailable
from tests.polling import until

PUBLIC = "93.184.215.14"
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 0))]


class NameServers:
    """The machine's resolver, played: names that begin with ``dead`` are waited for until the test ends."""

    def __init__(self):
        self.asked = []
        self.over = patcher.original("threading").Event()

    def __call__(self, host, *_):
        self.asked.append(host)
        if host.startswith("dead"):
            self.over.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return ANSWER


@pytest.fixture
def name_servers(monkeypatch):
    played = NameServers()
    monkeypatch.setattr(outside_names, "_getaddrinfo", played)
    yield played
    played.over.set()


@pytest.fixture
def impatient(monkeypatch):
    """What is waited for at all, is for long enough to know that nobody answers."""
    monkeypatch.setattr(outside_names, "SILENT_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(outside_names, "TURN_SECONDS", 0.05)


def in_threads(*calls):
    """Make calls at the same time; return the type of what each raised, or what it returned."""
    found = [None] * len(calls)

    def call(place):
        try:
            found[place] = calls[place]()
        except (NameUnknown, NoTurn) as error:
            found[place] = type(error)

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def looking_up(resolve, host, *, whose="", seconds=0.3):
    return lambda: resolve(host, seconds, whose=whose)


@pytest.mark.usefixtures("impatient")
def test_one_organization_with_dead_name_servers_holds_up_no_other(name_servers):
    resolve = SystemResolver(at_once=4, of_one=2)
    dead = [looking_up(resolve, f"dead{number}.test", whose="org_a") for number in range(8)]

    refused = in_threads(*dead)
    began = time.monotonic()
    found = resolve("alive.test", 5, whose="org_b")

    assert sorted(kind.__name__ for kind in refused) == ["NameUnknown"] * 2 + ["NoTurn"] * 6
    assert found == [PUBLIC]
    assert time.monotonic() - began < 1
    assert len(name_servers.asked) == 3


@pytest.mark.usefixtures("name_servers", "impatient")
def test_who_gets_no_turn_learns_nothing_about_the_name():
    resolve = SystemResolver(at_once=1, of_one=1)
    in_threads(looking_up(resolve, "dead.test", whose="org_a"))

    with pytest.raises(NoTurn):
        resolve("alive.test", 0.1, whose="org_b")


@pytest.mark.usefixtures("impatient")
def test_a_name_is_looked_up_once_however_many_want_it(name_servers):
    resolve = SystemResolver(at_once=8, of_one=8)

    found = in_threads(*[looking_up(resolve, "dead.test", whose=f"org_{number}") for number in range(8)])

    assert (found, name_servers.asked) == ([NameUnknown] * 8, ["dead.test"])


@pytest.mark.usefixtures("impatient")
def test_a_name_that_got_no_answer_is_not_looked_up_again_for_30_seconds(name_servers, monkeypatch):
    resolve = SystemResolver()
    in_threads(looking_up(resolve, "dead.test"))
    name_servers.over.set()
    until(lambda: resolve("other.test", 1) == [PUBLIC])

    with pytest.raises(NameUnknown, match="a moment ago"):
        resolve("dead.test", 5)

    assert name_servers.asked.count("dead.test") == 1
    in_31_seconds = time.monotonic() + 31
    monkeypatch.setattr(outside_names.time, "monotonic", lambda: in_31_seconds)
    with pytest.raises(NameUnknown, match="not known"):
        resolve("dead.test", 5)


def test_who_has_little_time_says_nothing_about_a_name_to_others(name_servers):
    resolve = SystemResolver()
    in_threads(looking_up(resolve, "dead.test", seconds=0.05))
    name_servers.over.set()

    with pytest.raises(NameUnknown, match="not known"):
        until(lambda: resolve("dead.test", 5))


@pytest.mark.usefixtures("name_servers", "impatient")
def test_an_address_that_nobody_had_a_turn_to_look_up_is_not_refused():
    resolve = SystemResolver(at_once=1, of_one=1)
    guarded = Outside(resolve=resolve)
    with pytest.raises(UrlRefused):
        guarded.check("https://dead.test/", whose="org_a", seconds=0.1)

    with pytest.raises(Unavailable) as told:
        guarded.check("https://alive.test/", whose="org_b", seconds=0.1)

    assert told.value.extra == {"retry_after": 5}
