"""Following the events."""

import json

import pytest

from shared.broker import Outgoing
from tools.__main__ import main
from tools.commands.events import line

SAMPLE = {
    "time": "2026-01-15T09:30:01.123456Z",
    "type": "CreditCaptured",
    "subject": "gen_1",
    "data": {"line_id": "gen_1", "job_id": "job_1", "amount": 10, "lines": [{}], "reason": None},
}


def test_an_event_is_told_in_one_line():
    assert line(SAMPLE) == "09:30:01.123 CreditCaptured       gen_1 job_id=job_1 amount=10"


@pytest.mark.broker
def test_events_are_printed_as_they_are_published(topology, capsys):
    with topology.publishing(
        Outgoing(body=json.dumps(SAMPLE).encode(), exchange="credits.events", routing_key="CreditCaptured")
    ):
        status = main(["events", "tail", "CreditCaptured", "--json", "--count", "1"])

    assert status == 0
    assert json.loads(capsys.readouterr().out) == SAMPLE
