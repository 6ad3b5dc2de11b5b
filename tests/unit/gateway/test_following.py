"""What a client that follows the log is sent: everything, once, in order, wherever it comes from."""

import json
import re
import threading
import time

import pytest

from services.gateway import following
from services.gateway.following import cursor_of, follow
from services.gateway.passing import Wanted
from services.gateway.streams import READERS_OF_ORGANIZATION, Streams, TooManyStreams
from shared import budget
from shared.http import Principal
from shared.http_problems import ReducedCapacity
from shared.problems import BadRequest, Unavailable
from tests.fakes import FakeServices

ORG = "org_1"
EVERYTHING = {"types": None, "session_id": None, "job_id": None}


@pytest.fixture
def services():
    return FakeServices()


@pytest.fixture
def streams():
    return Streams(per_organization=3, in_all=4)


def wanted(after="0", *, org_id=ORG, key_id="key_1", livemode=True, **chosen):
    asker = Principal(kind="key", id=key_id, name="CI", org_id=org_id, livemode=livemode)
    return Wanted(asker=asker, org_id=org_id, after=after, chosen={**EVERYTHING, **chosen})


def events_in(text):
    """Return ``(id, event, data)`` of every event in a piece of a stream."""
    found = []
    for block in text.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def ids_in(text):
    return [number for number, _, _ in events_in(text)]


def taken(pieces, count):
    """Take pieces until ``count`` events have come."""
    found = []
    for piece in pieces:
        found += ids_in(piece)
        if len(found) >= count:
            return found
    return found


def test_the_backlog_comes_first_and_then_what_is_heard(services, streams):
    for _ in range(3):
        services.log(ORG)
    pieces = follow(streams.open(wanted()), services.notifications)

    first = next(pieces)
    streams.heard(services.log(ORG))

    assert first.startswith(b"retry: ")
    assert ids_in(first) == [1, 2, 3]
    assert events_in(next(pieces)) == [(4, "JobFinished", services.logged[3]["event"])]


def test_whoever_names_no_place_begins_now(services, streams):
    services.log(ORG)
    pieces = follow(streams.open(wanted(None)), services.notifications)

    first = next(pieces)
    streams.heard(services.log(ORG))

    assert ids_in(first) == []
    assert ids_in(next(pieces)) == [2]


def test_whoever_begins_now_knows_from_where_and_misses_nothing_when_it_is_cut_off(services, streams):
    services.log(ORG)
    pieces = follow(streams.open(wanted(None)), services.notifications)
    told = re.findall(rb"^id: (\d+)$", next(pieces), re.MULTILINE)

    pieces.close()
    services.log(ORG)

    assert told == [b"1"]
    assert ids_in(next(follow(streams.open(wanted(told[-1].decode())), services.notifications))) == [2]


def test_beginning_now_reads_no_event_however_long_the_log_is(services, streams):
    services.log(ORG)

    next(follow(streams.open(wanted(None)), services.notifications))

    [asked] = services.notifications.asked("events")
    assert services.notifications.methods["events"](**asked)["data"] == []


def test_a_backlog_of_many_pages_comes_whole(services, streams, monkeypatch):
    monkeypatch.setattr(following, "PAGE", 7)
    for _ in range(30):
        services.log(ORG)

    assert taken(follow(streams.open(wanted("2")), services.notifications), 28) == list(range(3, 31))


def test_what_is_recorded_while_the_backlog_is_read_comes_once(services, streams, monkeypatch):
    monkeypatch.setattr(following, "PAGE", 5)
    for _ in range(12):
        services.log(ORG)
    read = services.notifications.methods["events"]

    def while_others_write(**asked):
        streams.heard(services.log(ORG))
        page = read(**asked)
        streams.heard(services.log(ORG))
        return page

    services.notifications.methods["events"] = while_others_write
    pieces = follow(streams.open(wanted()), services.notifications)

    found = taken(pieces, 15)
    services.notifications.methods["events"] = read
    streams.heard(services.log(ORG))
    found += taken(pieces, len(services.logged) - len(found))

    assert found == list(range(1, len(services.logged) + 1))


def test_what_is_heard_twice_comes_once(services, streams):
    pieces = follow(streams.open(wanted()), services.notifications)
    next(pieces)

    one, two = services.log(ORG), services.log(ORG)
    for each in (one, one, two, one, two):
        streams.heard(each)

    assert taken(pieces, 2) == [1, 2]
    streams.heard(services.log(ORG))
    assert taken(pieces, 1) == [3]


def test_what_was_not_heard_is_read_from_the_log(services, streams):
    pieces = follow(streams.open(wanted()), services.notifications)
    next(pieces)

    unheard = services.log(ORG)
    streams.heard(services.log(ORG))

    assert taken(pieces, 2) == [1, 2]
    streams.heard(unheard)
    streams.heard(services.log(ORG))
    assert taken(pieces, 1) == [3]


def test_what_passed_while_the_broker_was_away_is_read_from_the_log(services, streams):
    pieces = follow(streams.open(wanted()), services.notifications)
    next(pieces)

    services.log(ORG)
    services.log(ORG)
    streams.missed()

    assert taken(pieces, 2) == [1, 2]


def test_what_is_too_large_to_pass_is_read_from_the_log(services, streams):
    pieces = follow(streams.open(wanted()), services.notifications)
    next(pieces)

    recorded = services.log(ORG)
    streams.heard(type(recorded)(org_id=ORG, orgsequence=1, type=recorded.type, event=None))

    assert taken(pieces, 1) == [1]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"types": ["JobStalled"]}, [2]),
        ({"job_id": "job_2"}, [3]),
        ({"session_id": "ses_1"}, [4]),
        ({"livemode": False}, [5]),
        ({}, [1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_only_what_is_chosen_comes(services, streams, chosen, expected, live):
    pieces = follow(streams.open(wanted(**chosen)), services.notifications)
    if live:
        next(pieces)

    for fields in ({}, {"type": "JobStalled"}, {"job_id": "job_2"}, {"session_id": "ses_1"}, {"livemode": False}):
        streams.heard(services.log(ORG, **fields))

    assert taken(pieces, len(expected)) == expected


def test_nobody_hears_of_another_organization(services, streams):
    pieces = follow(streams.open(wanted()), services.notifications, heartbeat_seconds=0.05)
    next(pieces)

    streams.heard(services.log("org_2"))

    assert next(pieces) == b": \n\n"


def test_a_heartbeat_tells_how_far_it_is_where_little_is_chosen(services, streams):
    pieces = follow(streams.open(wanted(job_id="job_9")), services.notifications, heartbeat_seconds=0.05)
    next(pieces)

    streams.heard(services.log(ORG))

    assert next(pieces) == b": \nid: 1\n\n"
    assert next(pieces) == b": \n\n"


def test_a_steady_flow_of_what_is_not_chosen_holds_no_heartbeat_back(services, streams):
    pieces = follow(streams.open(wanted(job_id="job_9")), services.notifications, heartbeat_seconds=0.2)
    next(pieces)
    done = threading.Event()

    def flow():
        while not done.wait(0.01):
            streams.heard(services.log(ORG))

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        assert next(pieces).startswith(b": \nid: ")
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("after", ["99"])
def test_a_cursor_of_no_event_is_told_to_look_anew_and_goes_on(services, streams, after):
    services.log(ORG)
    pieces = follow(streams.open(wanted(after)), services.notifications)

    first = next(pieces)
    streams.heard(services.log(ORG))

    assert events_in(first) == [(1, "resync", {"oldest": "1", "last": "1"})]
    assert taken(pieces, 1) == [2]


def test_a_log_that_does_not_answer_is_waited_for(services, streams, monkeypatch):
    monkeypatch.setattr(following, "LOG_AWAY_SECONDS", 0.01)
    pieces = follow(streams.open(wanted()), services.notifications, heartbeat_seconds=0.05)
    next(pieces)
    services.notifications.down = True
    services.log(ORG)
    streams.missed()

    assert next(pieces) == b": \n\n"
    services.notifications.down = False

    assert taken(pieces, 1) == [1]


def test_a_log_that_does_not_answer_at_the_beginning_is_an_answer(services, streams):
    services.notifications.down = True

    with pytest.raises(Unavailable):
        next(follow(streams.open(wanted()), services.notifications))

    assert streams.all() == []


def test_who_comes_back_with_many_is_let_in_and_gets_the_backlog_when_it_is_its_turn(services, streams, monkeypatch):
    monkeypatch.setattr(following, "BEGIN_WITHIN_SECONDS", 0.01)
    services.log(ORG)
    busy = threading.Event()
    others = [threading.Thread(target=read_until, args=(streams, busy)) for _ in range(READERS_OF_ORGANIZATION)]
    for other in others:
        other.start()
    pieces = follow(streams.open(wanted()), services.notifications)

    first = next(pieces)
    services.log(ORG)
    busy.set()

    assert (first.startswith(b"retry: "), ids_in(first)) == (True, [])
    assert taken(pieces, 2) == [1, 2]
    for other in others:
        other.join()


def test_one_organization_that_reads_leaves_the_others_their_turn(services, streams):
    busy = threading.Event()
    others = [threading.Thread(target=read_until, args=(streams, busy)) for _ in range(READERS_OF_ORGANIZATION + 3)]
    for other in others:
        other.start()
    services.log("org_2")

    first = next(follow(streams.open(wanted(org_id="org_2")), services.notifications))

    busy.set()
    assert ids_in(first) == [1]
    for other in others:
        other.join()


def read_until(streams, done):
    with streams.readers.place_of(ORG):
        done.wait(10)


def test_who_does_not_take_what_it_is_sent_is_sent_away(services, streams, monkeypatch):
    monkeypatch.setattr("services.gateway.streams.SLOW_SECONDS", -1.0)
    pieces = follow(streams.open(wanted()), services.notifications)
    next(pieces)

    for _ in range(1_002):
        streams.heard(services.log(ORG))

    assert streams.all() == []
    assert len(taken(pieces, 2_000)) <= 1_000


def test_a_burst_that_is_larger_than_what_is_kept_is_read_from_the_log(services, streams):
    pieces = follow(streams.open(wanted()), services.notifications)
    next(pieces)

    for _ in range(1_500):
        streams.heard(services.log(ORG))

    assert taken(pieces, 1_500) == list(range(1, 1_501))


def test_an_organization_has_so_many_streams_and_the_process_so_many(services, streams):
    of_one = [follow(streams.open(wanted()), services.notifications) for _ in range(4)]
    for pieces in of_one[:3]:
        next(pieces)

    with pytest.raises(TooManyStreams):
        next(of_one[3])
    of_others = [follow(streams.open(wanted(org_id=org_id)), services.notifications) for org_id in ("org_2", "org_3")]
    next(of_others[0])
    with pytest.raises(ReducedCapacity):
        next(of_others[1])
    of_one[0].close()

    assert ids_in(next(follow(streams.open(wanted()), services.notifications))) == []


def test_a_stream_that_is_closed_ends_and_is_forgotten(services, streams):
    stream = streams.open(wanted())
    pieces = follow(stream, services.notifications)
    next(pieces)

    threading.Timer(0.05, stream.close).start()

    assert list(pieces) == []
    assert streams.all() == []


def test_what_was_read_while_a_stream_was_ended_is_not_sent(services, streams):
    services.log(ORG)
    stream = streams.open(wanted("0"))
    pieces = follow(stream, services.notifications)
    next(pieces)
    read = services.notifications.methods["events"]

    def while_the_key_is_revoked(**asked):
        services.log(ORG)
        page = read(**asked)
        stream.close("credential_ended")
        return page

    services.notifications.methods["events"] = while_the_key_is_revoked
    streams.missed()

    assert list(pieces) == []


def test_what_was_heard_before_a_stream_was_ended_is_not_sent_after_it(services, streams):
    stream = streams.open(wanted())
    pieces = follow(stream, services.notifications)
    next(pieces)

    streams.heard(services.log(ORG))
    stream.close("credential_ended")

    assert list(pieces) == []


def test_a_stream_that_is_ended_does_not_wait_for_its_turn(services, streams):
    busy = threading.Event()
    stream = streams.open(wanted())
    pieces = follow(stream, services.notifications)
    next(pieces)
    others = [threading.Thread(target=read_until, args=(streams, busy)) for _ in range(READERS_OF_ORGANIZATION)]
    for other in others:
        other.start()
    streams.missed()
    threading.Timer(0.05, stream.close, ["credential_ended"]).start()
    began = time.monotonic()

    assert list(pieces) == []

    assert time.monotonic() - began < 5
    busy.set()
    for other in others:
        other.join()


def test_who_waits_for_its_turn_is_told_that_we_are_there(services, streams):
    busy = threading.Event()
    pieces = follow(streams.open(wanted()), services.notifications, heartbeat_seconds=0.05)
    next(pieces)
    others = [threading.Thread(target=read_until, args=(streams, busy)) for _ in range(READERS_OF_ORGANIZATION)]
    for other in others:
        other.start()
    services.log(ORG)
    streams.missed()

    assert next(pieces) == b": \n\n"

    busy.set()
    assert taken(pieces, 1) == [1]
    for other in others:
        other.join()


def test_a_look_into_the_log_takes_no_longer_than_a_heartbeat_can_wait(services, streams):
    left = []
    read = services.notifications.methods["events"]

    def timed(**asked):
        left.append(budget.limit_seconds())
        return read(**asked)

    services.notifications.methods["events"] = timed
    with budget.limited_to(following.PIECE_SECONDS):
        pieces = follow(streams.open(wanted()), services.notifications)
        next(pieces)
        services.log(ORG)
        streams.missed()
        taken(pieces, 1)

    longest = following.HEARTBEAT_SECONDS + following.LOG_WITHIN_SECONDS + following.LOG_AWAY_SECONDS
    assert longest <= 15
    assert (len(left), max(left) <= following.LOG_WITHIN_SECONDS) == (2, True)


def test_who_is_slow_holds_little_of_a_backlog_of_large_events(services, streams):
    for _ in range(100):
        services.log(ORG, message="m" * 20_000)
    pieces = follow(streams.open(wanted()), services.notifications)

    found, sizes = [], []
    for piece in pieces:
        found += ids_in(piece)
        sizes.append(len(piece))
        if len(found) >= 100:
            break

    assert found == list(range(1, 101))
    assert max(sizes) < 200_000
    first, *more = [asked["limit"] for asked in services.notifications.asked("events")]
    assert (first, max(more) <= 2 * 7) == (following.PAGE, True)


def test_an_event_larger_than_that_comes_alone(services, streams):
    services.log(ORG)
    services.log(ORG, message="m" * 1_000_000)
    services.log(ORG)

    assert taken(follow(streams.open(wanted()), services.notifications), 3) == [1, 2, 3]


def test_one_key_leaves_room_to_the_others_of_its_organization(services):
    streams = Streams(per_organization=3, per_principal=2, in_all=9)
    of_one = [follow(streams.open(wanted()), services.notifications) for _ in range(3)]
    for pieces in of_one[:2]:
        next(pieces)

    with pytest.raises(TooManyStreams, match="One key"):
        next(of_one[2])

    other = follow(streams.open(wanted(key_id="key_2")), services.notifications)
    assert next(other).startswith(b"retry: ")
    of_one[0].close()
    again = follow(streams.open(wanted()), services.notifications)
    assert next(again).startswith(b"retry: ")


class HungUp:
    """The connection of a client that has hung up, which nobody has written to since."""

    def cut(self):
        raise AssertionError("nobody is there")

    def is_gone(self):
        return True

    def hold_little(self):
        pass


def test_who_comes_back_at_once_does_not_find_its_own_stream_of_before_in_its_way(services):
    streams = Streams(per_organization=9, per_principal=1, in_all=9)
    before = streams.open(wanted())
    before.sent_over(HungUp())
    pieces = follow(before, services.notifications)
    next(pieces)

    again = follow(streams.open(wanted()), services.notifications)

    assert next(again).startswith(b"retry: ")
    assert list(pieces) == []
    assert len(streams.all()) == 1


def test_what_a_client_has_seen_counts_more_than_where_it_began():
    assert cursor_of("7", "3") == "7"
    assert cursor_of(None, "3") == "3"
    assert cursor_of("", None) is None


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "\u0663", "9" * 19])
def test_what_is_no_id_is_no_place_to_go_on_from(text):
    with pytest.raises(BadRequest, match="Last-Event-ID"):
        cursor_of(text, None)
