"""Holding credits for many jobs of many organizations at once: each wallet, refusal and event for itself."""

from typing import Any

from services.credits import handlers
from services.credits.handlers import Asked
from services.credits.service import Credits
from shared.database import Database
from shared.events import CreditReserved
from shared.ids import new_id
from shared.problems import InsufficientCredits
from tests.builders import VARIANT, given_account, in_an_hour
from tests.service.credits.ledger_steps import balance, told, violations


def asked(org_id: str, *, job_id: str | None = None, lines: int = 1, correlation_id: str | None = None) -> Asked:
    request = handlers.request_of(
        org_id=org_id,
        job_id=job_id or new_id("job"),
        deadline_at=in_an_hour(),
        lines=[{"line_id": new_id("gen"), "sku": VARIANT} for _ in range(lines)],
    )
    return Asked(request=request, correlation_id=correlation_id, causation_id=None)


def test_each_organization_pays_for_its_own_jobs(credits_db: Database) -> None:
    first, second = given_account(credits_db, balance=100), given_account(credits_db, balance=50)

    answers = handlers.reserve_many(credits_db, [asked(first), asked(second, lines=2), asked(first, lines=3)])

    assert [len(answer["lines"]) for answer in answers] == [1, 2, 3]
    assert (balance(credits_db, first)[:2], balance(credits_db, second)[:2]) == ((60, 40), (30, 20))
    assert violations(credits_db) == []


def test_one_that_cannot_pay_is_refused_without_a_trace_and_the_others_are_held(credits_db: Database) -> None:
    poor, rich = given_account(credits_db, balance=5), given_account(credits_db, balance=100)
    several = [asked(rich), asked(poor), asked(rich)]

    first, refused, last = handlers.reserve_many(credits_db, several)

    assert isinstance(refused, InsufficientCredits)
    assert (len(first["lines"]), len(last["lines"])) == (1, 1)
    assert (balance(credits_db, poor)[:2], balance(credits_db, rich)[:2]) == ((5, 0), (80, 20))
    assert {event.job_id for event in told(credits_db, CreditReserved)} == {
        several[0].request.job_id,
        several[2].request.job_id,
    }
    assert violations(credits_db) == []


def test_the_same_job_twice_at_once_is_held_once_and_answered_alike(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    once = asked(org, lines=2)

    first, second = handlers.reserve_many(credits_db, [once, once])

    assert first["lines"] == second["lines"]
    assert balance(credits_db, org)[:2] == (80, 20)


def test_each_event_belongs_to_the_story_of_its_own_request(credits_db: Database) -> None:
    orgs = [given_account(credits_db, balance=100) for _ in range(2)]
    several = [asked(org, correlation_id=f"req_{number}") for number, org in enumerate(orgs)]

    handlers.reserve_many(credits_db, several)

    assert {(event.org_id, event.meta.correlation_id) for event in told(credits_db, CreditReserved) if event.meta} == {
        (orgs[0], "req_0"),
        (orgs[1], "req_1"),
    }


def test_the_command_answers_each_call_by_itself_one_that_cannot_be_read_too(credits_db: Database) -> None:
    org = given_account(credits_db, balance=100)
    service = Credits()
    service.db = credits_db

    def call(deadline_at: str) -> dict[str, Any]:
        lines = [{"line_id": new_id("gen"), "sku": VARIANT}]
        arguments = {"org_id": org, "job_id": new_id("job"), "deadline_at": deadline_at, "lines": lines}
        return {"arguments": arguments, "correlation_id": None, "budget_ms": None}

    held, unread = service.reserve_many(calls=[call(in_an_hour()), call("tomorrow")])

    assert held["result"]["held"] == 10
    assert unread["problem"]["status"] == 400
