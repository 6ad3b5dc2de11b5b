"""Many jobs taken in at once: each has its own outcome, and one that fails takes nobody along."""

import pytest
import sqlalchemy as sa

from services.generation import handlers, sweeper
from services.generation.engine import Engine
from services.generation.models import Generation, Job, Operation
from shared.database import Database
from shared.events import JobAccepted
from shared.problems import BadRequest, InsufficientCredits, JobClosed, NotFound, Unavailable
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import published, reserved, told


class Killed(BaseException):
    """What a crash point stands for where the process has to live on."""


def statuses(db: Database) -> dict[str, str]:
    with db.transaction() as session:
        return dict(session.execute(sa.select(Job.id, Job.status)).all())


def counts(db: Database) -> tuple[int, int, int]:
    """Return how many jobs, generations paid for, and operations due there are."""
    with db.transaction() as session:
        jobs = session.scalar(sa.select(sa.func.count()).select_from(Job))
        paid = session.scalar(sa.select(sa.func.count()).where(Generation.amount == 10))
        due = session.scalar(sa.select(sa.func.count()).where(Operation.due_at.is_not(None)))
        return int(jobs or 0), int(paid or 0), int(due or 0)


def accepted(db: Database) -> list[JobAccepted]:
    return [item for item in published(db) if isinstance(item, JobAccepted)]


def test_jobs_of_several_organizations_are_taken_in_by_one_call_and_each_is_answered_with_its_own(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    several = [a_submission(correlation_id=f"req_{number}") for number in range(5)]

    answers = handlers.submit_many(generation_db, credits_service, engine, several)

    assert [answer["job"]["id"] for answer in answers] == [asked.job_id for asked in several]
    assert {answer["job"]["status"] for answer in answers} == {"queued"}
    assert [answer["balance"]["held"] for answer in answers] == [20] * 5
    assert credits_service.asked_together == [5]
    assert counts(generation_db) == (5, 10, 10)
    assert {(event.job_id, event.org_id, event.meta.correlation_id) for event in accepted(generation_db)} == {
        (asked.job_id, asked.org_id, asked.correlation_id) for asked in several
    }


def test_one_that_cannot_be_paid_for_is_rejected_alone(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    poor, rich, also_rich = a_submission(), a_submission(), a_submission()
    credits_service.refusals[poor.job_id] = InsufficientCredits("Not enough.", required=20, available=0)

    refused, *others = handlers.submit_many(generation_db, credits_service, engine, [poor, rich, also_rich])

    assert isinstance(refused, InsufficientCredits)
    assert [answer["job"]["status"] for answer in others] == ["queued", "queued"]
    assert statuses(generation_db) == {poor.job_id: "rejected", rich.job_id: "queued", also_rich.job_id: "queued"}
    assert counts(generation_db) == (3, 4, 4)


def test_one_whose_inputs_do_not_fit_leaves_no_trace_and_the_others_are_taken_in(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    wrong = a_submission(inputs={"upload_id": "ast_1", "style": "modern", "room_type": "moon", "variants": 9})
    right = [a_submission(), a_submission()]

    first, refused, last = handlers.submit_many(generation_db, credits_service, engine, [right[0], wrong, right[1]])

    assert isinstance(refused, BadRequest)
    assert [first["job"]["id"], last["job"]["id"]] == [asked.job_id for asked in right]
    assert set(statuses(generation_db)) == {asked.job_id for asked in right}


def test_a_job_that_comes_twice_at_once_is_one_job_held_once_and_answered_twice(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    twice, other = a_submission(), a_submission()

    first, _, second = handlers.submit_many(generation_db, credits_service, engine, [twice, other, twice])

    assert first["job"] == {**second["job"], "queue_position": first["job"]["queue_position"]}
    assert counts(generation_db) == (2, 4, 4)
    assert len(credits_service.calls) == 2
    assert len(accepted(generation_db)) == 2


def test_another_organization_s_job_is_not_found_among_others_either(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    known = a_submission()
    handlers.submit(generation_db, credits_service, engine, known)

    stranger, mine = handlers.submit_many(
        generation_db, credits_service, engine, [a_submission(job_id=known.job_id), a_submission()]
    )

    assert isinstance(stranger, NotFound)
    assert mine["job"]["status"] == "queued"
    assert counts(generation_db) == (2, 4, 4)


def test_one_that_the_database_refuses_fails_alone_and_the_others_are_taken_in_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    right = [a_submission(), a_submission()]
    unwritable = a_submission(session_name="a room\0")

    first, failed, last = handlers.submit_many(generation_db, credits_service, engine, [right[0], unwritable, right[1]])

    assert isinstance(failed, sa.exc.DBAPIError)
    assert {first["job"]["status"], last["job"]["status"]} == {"queued"}
    assert counts(generation_db) == (2, 4, 4)
    assert len(accepted(generation_db)) == 2


def test_where_credits_do_not_answer_all_wait_and_asking_again_takes_each_in_once(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    several = [a_submission() for _ in range(3)]
    credits_service.refusal = Unavailable()

    unanswered = handlers.submit_many(generation_db, credits_service, engine, several)
    waiting = statuses(generation_db)
    credits_service.refusal = None
    answers = handlers.submit_many(generation_db, credits_service, engine, several)

    assert all(isinstance(outcome, Unavailable) for outcome in unanswered)
    assert set(waiting.values()) == {"awaiting_credit"}
    assert {answer["job"]["status"] for answer in answers} == {"queued"}
    assert counts(generation_db) == (3, 6, 6)
    assert len(accepted(generation_db)) == 3


def test_credits_that_do_not_know_the_command_for_many_are_asked_about_each(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*, calls: object) -> list[dict[str, object]]:
        raise NotFound(f"The credits service has no method reserve_many for {calls}.")

    monkeypatch.setattr(credits_service, "reserve_many", unknown)

    answers = handlers.submit_many(generation_db, credits_service, engine, [a_submission(), a_submission()])

    assert [answer["job"]["status"] for answer in answers] == ["queued", "queued"]
    assert len(credits_service.calls) == 2


@pytest.mark.parametrize("point", ["submit.after_job", "submit.after_reserve"])
def test_a_crash_between_two_steps_is_made_good_for_every_one_of_them(
    generation_db: Database,
    engine: Engine,
    credits_service: HoldingCredits,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    several = [a_submission() for _ in range(3)]

    def die(reached: str) -> None:
        if reached == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("services.generation.handlers.crash_point", die)
        patched.setattr("services.generation.holding.crash_point", die)
        with pytest.raises(Killed):
            handlers.submit_many(generation_db, credits_service, engine, several)
    before = statuses(generation_db)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET reserve_after = clock_timestamp()"))
    sweeper.reserve_again(generation_db, credits_service)

    assert set(before.values()) == {"awaiting_credit"}
    assert set(statuses(generation_db).values()) == {"queued"}
    assert counts(generation_db) == (3, 6, 6)


def test_an_event_that_overtakes_the_answer_and_one_that_comes_after_it_change_nothing_more(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [a_submission(), a_submission()]

    def overtake(reached: str) -> None:
        if reached == "submit.after_reserve":
            for call in credits_service.calls:
                told(generation_db, reserved(call["job_id"], [line["line_id"] for line in call["lines"]]))

    monkeypatch.setattr("services.generation.holding.crash_point", overtake)
    answers = handlers.submit_many(generation_db, credits_service, engine, several)
    overtake("submit.after_reserve")

    assert [answer["job"]["status"] for answer in answers] == ["queued", "queued"]
    assert counts(generation_db) == (2, 4, 4)
    assert [type(item).__name__ for item in published(generation_db)] == ["JobAccepted", "JobAccepted"]


def test_a_job_that_credits_have_closed_is_told_so_and_its_neighbour_is_queued(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    closed, other = a_submission(), a_submission()
    credits_service.refusals[closed.job_id] = JobClosed("It has ended.")

    outcome, answer = handlers.submit_many(generation_db, credits_service, engine, [closed, other])

    assert not isinstance(outcome, Exception)
    assert (outcome["job"]["status"], outcome["balance"]) == ("awaiting_credit", None)
    assert answer["job"]["status"] == "queued"


def test_what_may_begin_in_part_begins_in_part_beside_what_is_whole(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    whole = a_submission()
    part = a_submission(on_insufficient="partial")
    credits_service.means = 3

    first, second = handlers.submit_many(generation_db, credits_service, engine, [whole, part])

    assert first["job"]["counts"] == {"total": 2, "queued": 2, "running": 0, "succeeded": 0, "failed": 0}
    assert second["job"]["counts"] == {"total": 2, "queued": 1, "running": 0, "succeeded": 0, "failed": 1}


def test_a_dry_run_among_jobs_leaves_nothing(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    real, tried = a_submission(), a_submission(dry_run=True)

    first, second = handlers.submit_many(generation_db, credits_service, engine, [real, tried])

    assert first["job"]["status"] == "queued"
    assert (second["dry_run"], second["amount"]) == (True, 20)
    assert set(statuses(generation_db)) == {real.job_id}
