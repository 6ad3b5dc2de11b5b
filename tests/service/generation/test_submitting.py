import pytest
import sqlalchemy as sa

from services.generation import handlers, queries, sweeper
from services.generation.engine import Engine
from services.generation.models import Job, Operation
from shared import events
from shared.database import Database
from shared.events import GenerationStarted, JobAccepted, ReservationOverdue
from shared.ids import new_id
from shared.problems import BadRequest, InsufficientCredits, NotFound, Unavailable
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import begun, claim, published, reserved


def status_of(db: Database, job_id: str) -> str:
    with db.transaction() as session:
        return session.get_one(Job, job_id).status


def due_operations(db: Database, job_id: str) -> int:
    with db.transaction() as session:
        due = sa.select(sa.func.count()).where(Operation.job_id == job_id, Operation.due_at.is_not(None))
        return session.execute(due).scalar_one()


def test_a_submitted_job_holds_one_line_per_generation_and_is_queued(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()

    answer = handlers.submit(generation_db, credits_service, engine, asked)

    generation_ids = {generation["id"] for generation in answer["job"]["generations"]}
    assert {line["line_id"] for line in credits_service.calls[0]["lines"]} == generation_ids
    assert (answer["job"]["status"], answer["job"]["reserved"]) == ("queued", 20)
    assert answer["balance"] == {"available": 0, "held": 20, "version": 1}
    assert due_operations(generation_db, asked.job_id) == 2
    assert [type(item).__name__ for item in published(generation_db)] == ["JobAccepted"]


def test_what_tells_that_a_job_was_taken_in_and_begins_names_its_session(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    handlers.submit(generation_db, credits_service, engine, a_submission(session_id="ses_1"))

    begun(generation_db, claim(generation_db))

    told = [item for item in published(generation_db) if isinstance(item, JobAccepted | GenerationStarted)]
    assert {type(item) for item in told} == {JobAccepted, GenerationStarted}
    assert {item.session_id for item in told} == {"ses_1"}


def test_the_variants_of_a_job_have_different_seeds(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission(inputs={**a_submission().inputs, "variants": 8})
    asked = a_submission(inputs=asked.inputs, assets={asked.inputs["upload_id"]: {"key": "assets/o/a.jpg"}})

    answer = handlers.submit(generation_db, credits_service, engine, asked)

    assert len({generation["seed"] for generation in answer["job"]["generations"]}) == 8


def test_submitting_twice_makes_one_job_and_holds_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    first = handlers.submit(generation_db, credits_service, engine, asked)

    second = handlers.submit(generation_db, credits_service, engine, asked)

    assert second["job"]["id"] == first["job"]["id"]
    assert second["job"]["generations"] == first["job"]["generations"]
    assert len(credits_service.calls) == 1


def test_another_organization_cannot_reach_a_job_by_its_id(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    handlers.submit(generation_db, credits_service, engine, asked)

    with pytest.raises(NotFound):
        handlers.submit(generation_db, credits_service, engine, a_submission(job_id=asked.job_id))


def test_inputs_that_do_not_fit_are_named_by_pointer_and_leave_no_job(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission(inputs={"upload_id": "ast_1", "style": "modern", "room_type": "moon", "variants": 9})

    with pytest.raises(BadRequest) as refusal:
        handlers.submit(generation_db, credits_service, engine, asked)

    assert {error["pointer"] for error in refusal.value.extra["errors"]} == {"/inputs/room_type", "/inputs/variants"}
    assert published(generation_db) == []
    assert credits_service.calls == []


def test_a_short_balance_rejects_the_job_and_tells_its_end(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = InsufficientCredits("20 credits are needed, 5 are there.", required=20, available=5)

    with pytest.raises(InsufficientCredits):
        handlers.submit(generation_db, credits_service, engine, asked)

    assert status_of(generation_db, asked.job_id) == "rejected"
    names = [type(item).__name__ for item in published(generation_db)]
    assert names == ["JobAccepted", "GenerationFailed", "GenerationFailed", "JobFinished"]


def test_a_lost_answer_of_credits_leaves_the_job_waiting_and_the_event_queues_it(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(generation_db, credits_service, engine, asked)
    assert status_of(generation_db, asked.job_id) == "awaiting_credit"
    lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]

    with generation_db.transaction() as session:
        handlers.queue_paid_jobs(session, [reserved(asked.job_id, lines)])

    assert status_of(generation_db, asked.job_id) == "queued"
    assert due_operations(generation_db, asked.job_id) == 2


def test_asking_again_after_a_lost_answer_goes_on_with_the_same_job(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(generation_db, credits_service, engine, asked)
    credits_service.refusal = None

    answer = handlers.submit(generation_db, credits_service, engine, asked)

    assert answer["job"]["status"] == "queued"
    assert credits_service.calls[0]["lines"] == credits_service.calls[1]["lines"]


def _aged(db: Database, job_id: str, seconds: int) -> None:
    with db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE jobs SET created_at = created_at - make_interval(secs => :s),"
                " reserve_after = clock_timestamp() - interval '1 second' WHERE id = :id"
            ),
            {"s": seconds, "id": job_id},
        )


def test_the_sweeper_repeats_a_reservation_whose_answer_was_lost(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(generation_db, credits_service, engine, asked)
    credits_service.refusal = None
    _aged(generation_db, asked.job_id, 10)

    sweeper.reserve_again(generation_db, credits_service)

    assert status_of(generation_db, asked.job_id) == "queued"


def test_a_job_whose_credits_cannot_be_held_for_a_minute_is_rejected_with_all_its_lines(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = Unavailable()
    with pytest.raises(Unavailable):
        handlers.submit(generation_db, credits_service, engine, asked)
    _aged(generation_db, asked.job_id, 60)

    sweeper.reserve_again(generation_db, credits_service)

    assert status_of(generation_db, asked.job_id) == "rejected"
    finished = published(generation_db)[-1]
    assert isinstance(finished, events.JobFinished)
    assert {line.line_id for line in finished.lines} == {line["line_id"] for line in credits_service.calls[0]["lines"]}
    assert {line.outcome for line in finished.lines} == {"refunded"}


def test_credits_held_for_a_rejected_job_make_its_end_be_told_again(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    credits_service.refusal = InsufficientCredits()
    with pytest.raises(InsufficientCredits):
        handlers.submit(generation_db, credits_service, engine, asked)
    lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]

    with generation_db.transaction() as session:
        answers = handlers.queue_paid_jobs(session, [reserved(asked.job_id, lines)])

    assert [(type(item).__name__, item.status) for item in answers] == [("JobFinished", "rejected")]  # type: ignore[attr-defined]
    assert status_of(generation_db, asked.job_id) == "rejected"


def test_an_overdue_line_of_an_unknown_job_is_answered_as_rejected(generation_db: Database) -> None:
    overdue = ReservationOverdue(
        meta=events.correlated(None), reservation_id="rsv", job_id=new_id("job"), org_id="org", line_ids=["gen_1"]
    )

    with generation_db.transaction() as session:
        answers = handlers.answer_overdue(session, [overdue])

    (answer,) = answers
    assert isinstance(answer, events.JobFinished)
    assert (answer.status, [line.line_id for line in answer.lines]) == ("rejected", ["gen_1"])


def test_an_overdue_line_of_a_running_job_is_not_answered(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    handlers.submit(generation_db, credits_service, engine, asked)
    overdue = ReservationOverdue(
        meta=events.correlated(None), reservation_id="rsv", job_id=asked.job_id, org_id=asked.org_id, line_ids=["gen_1"]
    )

    with generation_db.transaction() as session:
        answers = handlers.answer_overdue(session, [overdue])

    assert answers == []


def test_a_second_organization_sees_no_job_of_the_first_even_without_a_where(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_submission()
    handlers.submit(generation_db, credits_service, engine, asked)

    with generation_db.transaction(org_id=new_id("org"), livemode=True) as session:
        seen = [session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in WALLED]
        page = queries.jobs(session, org_id=asked.org_id, livemode=True)

    assert seen == [0, 0, 0, 0]
    assert page["data"] == []


WALLED = ("jobs", "generations", "operations", "images")


def test_jobs_that_have_ended_are_no_active_ones_and_have_been_there_all_the_same(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    ended = a_submission()
    at_work = a_submission(org_id=ended.org_id)
    for asked in (ended, at_work):
        handlers.submit(generation_db, credits_service, engine, asked)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET status = 'failed' WHERE id = :id"), {"id": ended.job_id})

    with generation_db.transaction(org_id=ended.org_id, livemode=True) as session:
        active = queries.jobs(session, org_id=ended.org_id, livemode=True, active=True)["data"]
        has_jobs = queries.has_jobs(session, org_id=ended.org_id, livemode=True)
        has_others = queries.has_jobs(session, org_id=new_id("org"), livemode=True)

    assert [job["id"] for job in active] == [at_work.job_id]
    assert (has_jobs, has_others) == (True, False)
