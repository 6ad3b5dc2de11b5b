import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import handlers, planning
from services.generation.engine import Engine
from services.generation.models import Job
from shared.database import Database
from shared.problems import (
    BadRequest,
    InsufficientCredits,
    NotFound,
    Problem,
    QuoteExpired,
    QuoteMismatch,
    QuoteUsed,
    Unavailable,
    from_dict,
)
from tests.fakes import HoldingCredits, ScriptedProvider
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import names, published

INPUTS = {"upload_id": "ast_1", "style": "modern", "room_type": "bedroom", "variants": 8}
ASSETS = {"ast_1": {"key": "assets/org/a.jpg"}}
UNKNOWN_SKU = {"code": "unknown_sku", "status": 400, "title": "", "detail": "No price.", "retryable": False}


def quote(engine: Engine, **inputs: Any) -> dict[str, Any]:
    return planning.quote(engine, workflow_name="staging", inputs={**INPUTS, **inputs}, assets=ASSETS)


def rows(db: Database, table: str) -> int:
    with db.transaction() as session:
        return int(session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_a_quote_counts_the_generations_of_each_sku_and_their_images(engine: Engine) -> None:
    quoted = quote(engine)

    assert (quoted["workflow"], quoted["skus"], quoted["images"]) == ("staging", {"staging.variant": 8}, 8)


def test_the_fingerprint_is_of_the_workflow_and_the_inputs_as_its_schema_reads_them(engine: Engine) -> None:
    without_variants = {name: value for name, value in INPUTS.items() if name != "variants"}
    read = {**without_variants, "variants": 2}
    canonical = json.dumps({"inputs": read, "workflow": "staging"}, sort_keys=True, separators=(",", ":"))

    quoted = planning.quote(engine, workflow_name="staging", inputs=without_variants, assets=ASSETS)

    assert quoted["fingerprint"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert quoted["fingerprint"] == quote(engine, variants=2)["fingerprint"]
    assert quoted["fingerprint"] != quote(engine, variants=3)["fingerprint"]


def test_what_does_not_run_at_once_takes_that_much_longer(provider: ScriptedProvider) -> None:
    at_once = {
        number: Engine(providers={"local": provider}, routes={}, operations_per_organization=number)
        for number in (8, 3)
    }

    assert quote(at_once[8])["estimated_seconds"] == 60
    assert quote(at_once[3])["estimated_seconds"] == 180  # 3 + 3 + 2


def test_inputs_that_do_not_fit_are_not_quoted(engine: Engine) -> None:
    with pytest.raises(BadRequest):
        quote(engine, variants=9)


def test_work_that_no_provider_does_is_not_quoted() -> None:
    with pytest.raises(Unavailable):
        quote(Engine(providers={}, routes={}))


def test_credits_hear_of_a_job_what_their_history_and_their_limits_need(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission(user_id="usr_1", session_id="ses_1")

    job = handlers.submit(generation_db, credits_service, engine, asked)["job"]

    (request,) = credits_service.calls
    assert (request["workflow"], request["session_id"], request["actor"]) == ("staging", "ses_1", "usr_1")
    assert request["accepted_at"].replace("+00:00", "Z") == job["created_at"]
    assert [line["cost_microusd"] for line in request["lines"]] == [5, 5]
    assert [line["line_id"] for line in request["lines"]] == [item["id"] for item in job["generations"]]
    assert (request["partial"], "quote_id" in request, "fingerprint" in request) == (False, False, False)


def test_a_job_names_its_quote_with_the_fingerprint_the_quote_was_given(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission(quote_id="quo_1")
    quoted = planning.quote(engine, workflow_name="staging", inputs=asked.inputs, assets=asked.assets)

    handlers.submit(generation_db, credits_service, engine, asked)

    (request,) = credits_service.calls
    assert (request["quote_id"], request["fingerprint"]) == ("quo_1", quoted["fingerprint"])


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (QuoteExpired(), "invalid_input"),
        (QuoteUsed(), "invalid_input"),
        (QuoteMismatch(), "invalid_input"),
        (NotFound("There is no such quote."), "invalid_input"),
        (from_dict(UNKNOWN_SKU), "internal_error"),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_a_quote_that_does_not_fit_rejects_the_job_and_is_told(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, refusal: Problem, reason: str
) -> None:
    credits_service.refusal = refusal
    asked = a_submission(quote_id="quo_1", on_insufficient="pause")

    with pytest.raises(type(refusal)):
        handlers.submit(generation_db, credits_service, engine, asked)

    with generation_db.transaction() as session:
        assert session.get_one(Job, asked.job_id).status == "rejected"
    assert names(generation_db) == ["JobAccepted", "GenerationFailed", "GenerationFailed", "JobFinished"]
    assert {event.reason for event in published(generation_db)[1:3]} == {reason}  # type: ignore[attr-defined]


def test_a_refusal_older_than_what_was_held_since_is_no_answer(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(generation_db, credits_service, engine, asked)
    late = LateRefusal(generation_db, engine, asked)

    answer = handlers.submit(generation_db, late, engine, asked)

    assert answer["job"]["status"] == "queued"


class LateRefusal:
    """Refuses a job that another call, made meanwhile, has had held."""

    def __init__(self, db: Database, engine: Engine, asked: handlers.Submission) -> None:
        self.db, self.engine, self.asked = db, engine, asked

    def reserve(self, **_request: Any) -> dict[str, Any]:
        handlers.submit(self.db, HoldingCredits(), self.engine, self.asked)
        raise InsufficientCredits


def test_a_dry_run_says_what_would_be_held_and_writes_nothing(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission(dry_run=True, quote_id="quo_1")

    answer = handlers.submit(generation_db, credits_service, engine, asked)

    line = {"sku": "staging.variant", "unit": "credits", "count": 2, "unit_amount": 10, "amount": 20}
    assert answer == {
        "dry_run": True,
        "workflow": "staging",
        "amount": 20,
        "totals": {"credits": 20},
        "lines": [line],
        "images": 2,
        "estimated_seconds": 60,
        "balance": {"available": 0, "held": 20, "version": 1},
        "shortfall": None,
    }
    (request,) = credits_service.calls
    assert (request["dry_run"], request["partial"], request["quote_id"]) == (True, False, "quo_1")
    assert len({line["line_id"] for line in request["lines"]}) == 2
    assert [rows(generation_db, table) for table in ("jobs", "generations", "operations", "outbox")] == [0, 0, 0, 0]


def test_a_dry_run_in_part_says_what_is_short(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = 1

    answer = handlers.submit(
        generation_db, credits_service, engine, a_submission(dry_run=True, on_insufficient="partial")
    )

    assert (answer["amount"], answer["lines"][0]["count"]) == (10, 1)
    assert answer["shortfall"]["code"] == "quota_exceeded"


@pytest.mark.parametrize("on_insufficient", ["reject", "partial"])
def test_a_dry_run_is_refused_as_the_job_would_be(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, on_insufficient: str
) -> None:
    credits_service.refusal = InsufficientCredits("short", required=20, available=5)

    with pytest.raises(InsufficientCredits):
        handlers.submit(
            generation_db, credits_service, engine, a_submission(dry_run=True, on_insufficient=on_insufficient)
        )

    assert rows(generation_db, "jobs") == 0


def test_a_dry_run_of_a_job_that_would_wait_is_told_what_for(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.refusal = InsufficientCredits("short", required=20, available=5)
    asked = replace(a_submission(), dry_run=True, on_insufficient="pause")

    answer = handlers.submit(generation_db, credits_service, engine, asked)

    assert (answer["amount"], answer["lines"], answer["balance"]) == (0, [], None)
    assert answer["shortfall"] == {"code": "insufficient_credits", "detail": "short", "required": 20, "available": 5}
