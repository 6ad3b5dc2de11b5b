"""Messages that were set aside: looked at, sent again, dropped."""

import json

import pytest

from tests.polling import until
from tools.__main__ import main

pytestmark = pytest.mark.broker

EVENT = json.dumps({"type": "GenerationFailed", "source": "/darkroom/generation"}).encode()
FAILED = {"x-reason": "handler_failed", "x-detail": "KeyError: 'x'", "x-queue": "test.handler", "x-attempts": 5}


@pytest.fixture
def broker(topology):
    """The broker with one subscription's queue, bound for GenerationFailed."""
    topology.add_queue("test.handler", exchange="generation.events", routing_key="GenerationFailed")
    return topology


def listed(capsys):
    capsys.readouterr()
    main(["dead-letters", "list", "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_message_is_listed_with_what_a_person_needs_to_know(broker, capsys):
    broker.put("credits.dead-letters", body=EVENT, message_id="evt_1", **FAILED)

    (letter,) = listed(capsys)

    assert letter["id"] == "evt_1"
    assert letter["type"] == "GenerationFailed"
    assert letter["service"] == "credits"
    assert letter["routing_key"] == "test.handler"
    assert letter["reason"] == "handler_failed"
    assert letter["detail"] == "KeyError: 'x'"
    assert letter["attempts"] == 5
    assert letter["body"] == EVENT.decode()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"type": 1}', b"1" * 5000])
def test_a_message_that_is_no_event_is_listed_as_well(broker, capsys, body):
    broker.put("credits.dead-letters", body=body, message_id="m", **{**FAILED, "x-attempts": "many"})

    (letter,) = listed(capsys)

    assert (letter["id"], letter["type"], letter["attempts"]) == ("m", "?", 0)


def test_listing_takes_nothing_away(broker, capsys):
    broker.put("credits.dead-letters", **FAILED)

    assert len(listed(capsys)) == 1
    until(lambda: broker.count("credits.dead-letters") == 1, what="the message being back")


def test_replaying_sends_a_message_to_the_queue_it_failed_in_as_if_untried(broker, capsys):
    broker.put("credits.dead-letters", body=EVENT, message_id="evt_1", **FAILED)

    status = main(["dead-letters", "replay", "evt_1"])

    message = broker.take("test.handler")
    assert status == 0
    assert (message.body, message.properties["message_id"]) == (EVENT, "evt_1")
    assert {"x-attempts", "x-reason"}.isdisjoint(message.headers or {})
    assert listed(capsys) == []


def test_only_what_was_chosen_is_replayed(broker, capsys):
    broker.put("credits.dead-letters", message_id="evt_1", **FAILED)
    broker.put("credits.dead-letters", message_id="evt_2", **FAILED)
    broker.put("generation.dead-letters", message_id="evt_3", **{**FAILED, "x-reason": "unknown_type"})

    main(["dead-letters", "replay", "--all", "--reason", "handler_failed", "--service", "credits"])

    assert [letter["id"] for letter in listed(capsys)] == ["evt_3"]
    assert broker.count("test.handler") == 2


def test_dropping_deletes_what_was_chosen(broker, capsys):
    broker.put("credits.dead-letters", message_id="evt_1", **FAILED)
    broker.put("credits.dead-letters", message_id="evt_2", **FAILED)

    status = main(["dead-letters", "drop", "evt_1"])

    assert status == 0
    assert [letter["id"] for letter in listed(capsys)] == ["evt_2"]


def test_an_event_whose_subscribers_queue_was_missing_is_published_anew(broker, capsys):
    broker.put("unrouted", body=EVENT, message_id="evt_1")

    main(["dead-letters", "replay", "--all", "--service", "unrouted"])

    assert broker.take("test.handler").body == EVENT
    assert listed(capsys) == []


@pytest.mark.parametrize("action", ["replay", "drop", "show"])
@pytest.mark.usefixtures("broker")
def test_nothing_is_done_without_saying_to_which(action, capsys):
    status = main(["dead-letters", action])

    assert status == 1
    assert "--all" in capsys.readouterr().err


@pytest.mark.usefixtures("broker")
def test_a_message_that_is_not_there_is_named(capsys):
    status = main(["dead-letters", "replay", "evt_9"])

    assert status == 1
    assert "not found: evt_9" in capsys.readouterr().err


def test_a_message_whose_queue_is_gone_stays_where_it_is(broker, capsys):
    broker.put("credits.dead-letters", message_id="evt_1", **{**FAILED, "x-queue": "no.such.queue"})

    status = main(["dead-letters", "replay", "--all"])

    assert status == 1
    assert "evt_1 cannot be sent to no.such.queue" in capsys.readouterr().err
    until(lambda: broker.count("credits.dead-letters") == 1, what="the message being back")
