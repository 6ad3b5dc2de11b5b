import pytest

from services.generation import handlers
from services.generation.engine import Engine
from services.generation.models import Generation, Job
from shared.database import Database
from shared.events import GenerationFailed, JobFinished, ReservationOverdue, correlated
from shared.problems import QuotaExceeded, Unavailable
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import (
    adopt,
    ask_again,
    begun,
    claim,
    fail_one,
    job_of,
    names,
    published,
    reserved,
    seconds_until_asked,
    submitted,
    told,
)


@pytest.fixture
def credits_service() -> HoldingCredits:
    """Credits that hold one line and no more."""
    credits_service = HoldingCredits()
    credits_service.means = 1
    return credits_service


def partial(db: Database, engine: Engine, credits_service: HoldingCredits, *, variants: int = 3) -> str:
    return submitted(db, engine, variants=variants, credits_service=credits_service, on_insufficient="partial")


def lines_of(credits_service: HoldingCredits) -> list[str]:
    return [line["line_id"] for line in credits_service.calls[0]["lines"]]


def finish_all(db: Database, engine: Engine) -> None:
    for item in begun(db, claim(db)):
        assert adopt(db, engine, item)


def failures(db: Database) -> list[GenerationFailed]:
    return [event for event in published(db) if isinstance(event, GenerationFailed)]


def without_an_answer(db: Database, engine: Engine, credits_service: HoldingCredits) -> str:
    """Submit three variants; nobody hears what credits say."""
    asked = a_submission(on_insufficient="partial")
    asked = a_submission(**{**vars(asked), "inputs": {**asked.inputs, "variants": 3}})
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(db, credits_service, engine, asked)
    credits_service.refusal = None
    return asked.job_id


def test_a_partial_job_does_what_is_held_and_fails_the_rest_at_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = partial(generation_db, engine, credits_service)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["reserved"], job["refunded"]) == ("queued", 10, 0)
    assert [item["status"] for item in job["generations"]] == ["queued", "failed", "failed"]
    assert [item["failure"] and item["failure"]["reason"] for item in job["generations"]] == [
        None,
        "quota_exceeded",
        "quota_exceeded",
    ]
    assert [event.line_id for event in failures(generation_db)] == [None, None]
    assert len(claim(generation_db)) == 1


def test_a_partial_job_ends_with_what_it_did_and_says_what_it_did_not(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = partial(generation_db, engine, credits_service)

    finish_all(generation_db, engine)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["charged"]) == ("partially_succeeded", 10)
    (warning,) = job["warnings"]
    assert warning["code"] == "generations_not_begun"
    assert "2 of 3" in warning["detail"]
    finished = published(generation_db)[-1]
    assert isinstance(finished, JobFinished)
    assert [line.outcome for line in finished.lines] == ["captured"]


def test_a_partial_job_of_which_nothing_can_be_held_is_rejected(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = 0
    asked = a_submission(on_insufficient="partial")

    with pytest.raises(QuotaExceeded):
        handlers.submit(generation_db, credits_service, engine, asked)

    job = job_of(generation_db, asked.job_id)
    assert (job["status"], job["warnings"]) == ("rejected", [])
    assert {item["failure"]["reason"] for item in job["generations"]} == {"quota_exceeded"}


def test_the_event_that_overtakes_the_answer_begins_what_it_names_and_the_rest_is_asked_for(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = without_an_answer(generation_db, engine, credits_service)
    first, *others = lines_of(credits_service)

    told(generation_db, reserved(job_id, [first]))

    assert [item["status"] for item in job_of(generation_db, job_id)["generations"]] == ["queued"] * 3
    assert len(claim(generation_db)) == 1
    assert seconds_until_asked(generation_db, job_id) <= 0
    credits_service.held = {first}
    ask_again(generation_db, credits_service)
    assert [line["line_id"] for line in credits_service.calls[-1]["lines"]] == others
    statuses = [item["status"] for item in job_of(generation_db, job_id)["generations"]]
    assert statuses == ["queued", "failed", "failed"]


def test_a_job_whose_begun_part_has_ended_ends_when_credits_refuse_the_rest(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = without_an_answer(generation_db, engine, credits_service)
    first, *_ = lines_of(credits_service)
    told(generation_db, reserved(job_id, [first]))
    finish_all(generation_db, engine)
    credits_service.held = {first}

    ask_again(generation_db, credits_service)

    assert job_of(generation_db, job_id)["status"] == "partially_succeeded"


def test_lines_held_after_their_generations_have_failed_are_given_back(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = partial(generation_db, engine, credits_service)
    first, *others = lines_of(credits_service)
    before = len(failures(generation_db))

    told(generation_db, reserved(job_id, [first, *others]))

    again = failures(generation_db)[before:]
    assert [(event.generation_id, event.line_id) for event in again] == [(line, line) for line in others]
    assert {event.reason for event in again} == {"quota_exceeded"}
    assert job_of(generation_db, job_id)["refunded"] == 20
    finish_all(generation_db, engine)
    finished = published(generation_db)[-1]
    assert isinstance(finished, JobFinished)
    assert [line.outcome for line in finished.lines] == ["captured", "refunded", "refunded"]


def test_an_event_told_late_about_a_generation_that_failed_at_work_changes_nothing(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = 2
    job_id = partial(generation_db, engine, credits_service)
    first, second, _ = lines_of(credits_service)
    item, _ = begun(generation_db, claim(generation_db))
    fail_one(generation_db, item)
    before = names(generation_db)

    told(generation_db, reserved(job_id, [first, second]))

    assert names(generation_db) == before


def test_lines_held_for_a_job_that_has_ended_are_listed_in_its_end(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    job_id = partial(generation_db, engine, credits_service)
    lines = lines_of(credits_service)
    finish_all(generation_db, engine)

    (answer,) = told(generation_db, reserved(job_id, lines))

    assert isinstance(answer, JobFinished)
    assert [(line.line_id, line.outcome, line.amount) for line in answer.lines] == [
        (lines[0], "captured", 10),
        (lines[1], "refunded", 10),
        (lines[2], "refunded", 10),
    ]


@pytest.mark.parametrize("ended", [True, False])
def test_an_overdue_line_of_a_generation_that_was_never_begun_is_given_back(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, *, ended: bool
) -> None:
    job_id = partial(generation_db, engine, credits_service)
    lines = lines_of(credits_service)
    if ended:
        finish_all(generation_db, engine)
    overdue = ReservationOverdue(
        meta=correlated(None), reservation_id="rsv", job_id=job_id, org_id="org", line_ids=[lines[0], lines[2]]
    )

    with generation_db.transaction() as session:
        (answer,) = handlers.answer_overdue(session, [overdue])

    if ended:
        assert isinstance(answer, JobFinished)
        assert [line.line_id for line in answer.lines] == [lines[0], lines[2]]
    else:
        assert isinstance(answer, GenerationFailed)
        assert answer.line_id == lines[2]


def test_an_answer_that_names_no_shortfall_leaves_the_lines_it_does_not_name_free_of_charge(
    generation_db: Database, engine: Engine
) -> None:
    class FreeOfCharge(HoldingCredits):
        def reserve(self, **request: object) -> dict[str, object]:
            answer = super().reserve(**request)
            return {**answer, "lines": answer["lines"][:1]}

    job_id = submitted(generation_db, engine, variants=2, credits_service=FreeOfCharge(), on_insufficient="partial")

    with generation_db.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.status, job.reserve_after) == ("queued", None)
        amounts = {item.amount for item in session.query(Generation).filter_by(job_id=job_id)}
    assert amounts == {10, 0}
    assert len(claim(generation_db)) == 2
