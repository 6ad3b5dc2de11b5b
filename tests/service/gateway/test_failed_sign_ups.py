"""Sign-ups that fail for a reason of ours reach operators; those that fail for a reason of theirs do not."""

import pytest
import sqlalchemy as sa

from services.gateway import sessions
from services.gateway.failed_sign_ups import FailedSignUps
from shared.problems import NotFound, Unavailable
from tests.service.gateway.people import invite, sign_up


class Told:
    """Plays the notifications service, which may be away."""

    def __init__(self):
        self.reports = []
        self.away = False

    def report_failed_sign_ups(self, **what):
        if self.away:
            raise Unavailable
        self.reports.append((what["count"], what["error"]))


@pytest.fixture
def told():
    return Told()


def test_a_database_that_is_away_is_told_of_once_with_how_many(told):
    failed = FailedSignUps()
    for _ in range(3):
        failed.note(sa.exc.OperationalError("?", {}, Exception("away")))

    for _ in range(2):
        failed.report(told)

    assert told.reports == [(3, "OperationalError")]


def test_what_cannot_be_told_now_is_told_later(told):
    failed = FailedSignUps()
    failed.note(Unavailable())
    told.away = True
    failed.report(told)

    told.away = False
    failed.note(RuntimeError())
    failed.report(told)

    assert told.reports == [(2, "RuntimeError")]


def test_what_somebody_did_wrong_is_nobody_elses_business(told):
    failed = FailedSignUps()
    failed.note(NotFound())

    failed.report(told)

    assert told.reports == []


def test_the_route_counts_them(client, gateway, studio, told, monkeypatch):
    invitation = invite(client, studio[1])

    def fail(*_arguments, **_more):
        raise sa.exc.OperationalError("?", {}, Exception("away"))

    refused = sign_up(client, invitation, email="somebody.else@example.com")
    with monkeypatch.context() as broken:
        broken.setattr(sessions, "begin", fail)
        failed = sign_up(client, invitation)
    worked = sign_up(client, invitation)
    gateway.failed_sign_ups.report(told)

    assert (refused.status_code, failed.status_code, worked.status_code) == (400, 500, 201)
    assert told.reports == [(1, "OperationalError")]
