"""What happened: read page by page, or followed, with nothing missed and nothing twice when the stream breaks."""

import json
import time
from itertools import islice

import pytest

from darkroom_client import NoAnswer, PermissionDenied, Resync
from tests.clients.answers import TIME, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted

QUICKLY = b"retry: 1\n\n"


def cloud_event(number: int) -> dict[str, object]:
    return {"id": f"evt_{number}", "type": "JobFinished", "time": TIME, "orgsequence": number, "data": {"n": number}}


def frame(number: int) -> bytes:
    return b"id: %d\nevent: JobFinished\ndata: %s\n\n" % (number, json.dumps(cloud_event(number)).encode())


def a_stream(*pieces: bytes, **more: int) -> Scripted:
    return Scripted(body=QUICKLY + b"".join(pieces), headers={"Content-Type": "text/event-stream"}, **more)


def a_page(*numbers: int, after: str | None = None, resync: bool = False) -> Scripted:
    data = [{"id": str(n), "type": "JobFinished", "time": TIME, "event": cloud_event(n)} for n in numbers]
    more = {"has_more": after is not None, "next_cursor": after, "oldest": "1", "last": "9", "resync": resync}
    return Scripted(body={"data": data, **more})


def test_the_log_is_read_page_by_page(play: Play) -> None:
    darkroom, server = play(a_page(3, 4, after="4"), a_page(5))

    found = list(darkroom.events.list(after="2", types=["JobFinished", "JobAccepted"], job_id="job_1"))

    assert [event.id for event in found] == ["3", "4", "5"]
    assert found[0].data == {"n": 3}
    assert [asked.query["after"] for asked in server.asked] == ["2", "4"]
    assert (server.asked[0].query["types"], server.asked[0].query["job"]) == ("JobFinished,JobAccepted", "job_1")


def test_a_log_that_is_kept_no_longer_is_told(play: Play) -> None:
    darkroom, _ = play(a_page(resync=True))

    with pytest.raises(Resync) as told:
        list(darkroom.events.list(after="1"))

    assert told.value.last == "9"


def test_a_stream_that_ends_is_gone_on_with(play: Play) -> None:
    darkroom, server = play(a_stream(frame(1), b": \n\n", frame(2)), a_stream(frame(3)), a_stream())

    found = [event.id for event in islice(darkroom.events.stream(after="0", types=["JobFinished"]), 3)]

    assert found == ["1", "2", "3"]
    assert [asked.headers.get("Last-Event-ID") for asked in server.asked] == ["0", "2"]
    assert {asked.query["types"] for asked in server.asked} == {"JobFinished"}


def test_an_event_of_which_only_a_part_came_comes_whole_the_next_time(play: Play) -> None:
    cut = len(QUICKLY) + len(frame(1)) + 30
    darkroom, server = play(a_stream(frame(1), frame(2), cut_after=cut), None, a_stream(frame(2)))

    found = [event.id for event in islice(darkroom.events.stream(after="0"), 2)]

    assert found == ["1", "2"]
    assert server.asked[-1].headers["Last-Event-ID"] == "1"


def chunked(body: bytes, *, size: int) -> bytes:
    parts = [body[begin : begin + size] for begin in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@pytest.mark.parametrize("size", [1_000, 16_384, 2_000_000])
def test_an_event_of_a_megabyte_comes_at_once(play: Play, size: int) -> None:
    """However it is cut into HTTP's chunks; the others before and after it are not held up."""
    text = "m" * 1_000_000
    large = (
        b"id: 2\r\nevent: JobFinished\r\ndata: %s\r\n\r\n"
        % json.dumps({**cloud_event(2), "data": {"text": text}}).encode()
    )
    body = chunked(QUICKLY + frame(1) + large + frame(3), size=size)
    headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    darkroom, _ = play(Scripted(body=body, headers=headers))
    began = time.monotonic()

    found = list(islice(darkroom.events.stream(after="0"), 3))

    assert [event.id for event in found] == ["1", "2", "3"]
    assert found[1].data == {"text": text}
    assert time.monotonic() - began < 5


def test_who_is_cut_off_before_the_first_event_goes_on_from_where_it_began(play: Play) -> None:
    darkroom, server = play(a_stream(b"id: 7\n\n"), a_stream(frame(8)))

    assert next(darkroom.events.stream()).id == "8"
    assert [asked.headers.get("Last-Event-ID") for asked in server.asked] == [None, "7"]


def test_a_heartbeat_moves_the_place_to_go_on_from(play: Play) -> None:
    darkroom, server = play(a_stream(b": \nid: 7\n\n"), a_stream(frame(8)))

    assert next(darkroom.events.stream()).id == "8"
    assert server.asked[0].headers.get("Last-Event-ID") is None
    assert server.asked[1].headers["Last-Event-ID"] == "7"


def test_a_follower_that_missed_too_much_is_told(play: Play) -> None:
    darkroom, _ = play(a_stream(b'id: 9\nevent: resync\ndata: {"oldest": "5", "last": "9"}\n\n'))

    with pytest.raises(Resync) as told:
        next(darkroom.events.stream(after="1"))

    assert (told.value.oldest, told.value.last) == ("5", "9")


def test_a_stream_that_is_refused_is_not_asked_for_again(play: Play) -> None:
    darkroom, server = play(a_problem(403, "forbidden"))

    with pytest.raises(PermissionDenied):
        next(darkroom.events.stream())

    assert len(server.asked) == 1


def test_a_stream_that_cannot_be_reached_is_given_up_in_the_end(play: Play) -> None:
    darkroom, server = play(*[None] * 50, retry_seconds=0.1)

    with pytest.raises(NoAnswer):
        next(darkroom.events.stream())

    assert len(server.asked) > 1
