"""So much of an organization may be open: what is more is refused whole, with nothing written and nothing held."""

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.generation import handlers
from services.generation.engine import Engine
from services.generation.models import Job, Share
from services.generation.queue_caps import QueueFull
from services.generation.submissions import Submission
from shared.database import Database
from shared.ids import new_id
from shared.problems import LimitExceeded
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import begun, claim, fail_one, published


@pytest.fixture
def small(engine: Engine) -> Engine:
    return replace(engine, open_generations=4)


def asked(org_id: str, *, variants: int = 2, **changes: object) -> Submission:
    submission = a_submission(org_id=org_id, **changes)
    return replace(submission, inputs={**submission.inputs, "variants": variants})


def jobs_in(db: Database) -> int:
    with db.transaction() as session:
        return session.scalars(sa.select(sa.func.count()).select_from(Job)).one()


def refusal(db: Database, credits_service: HoldingCredits, engine: Engine, submission: Submission) -> QueueFull:
    with pytest.raises(QueueFull) as caught:
        handlers.submit(db, credits_service, engine, submission)
    return caught.value


def test_a_full_queue_refuses_and_says_when_to_come_again(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    org_id = new_id("org")
    handlers.submit(generation_db, credits_service, small, asked(org_id, variants=3))
    held, told = set(credits_service.held), len(published(generation_db))

    problem = refusal(generation_db, credits_service, small, asked(org_id))

    assert (problem.status, problem.extra) == (503, {"retry_after": 300, "limit": 4, "excess": 1})
    assert (jobs_in(generation_db), credits_service.held, len(published(generation_db))) == (1, held, told)


def test_other_organizations_have_queues_of_their_own(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    for _ in range(3):
        handlers.submit(generation_db, credits_service, small, asked(new_id("org"), variants=4))

    assert jobs_in(generation_db) == 3


def test_what_has_ended_makes_room(generation_db: Database, credits_service: HoldingCredits, small: Engine) -> None:
    org_id = new_id("org")
    handlers.submit(generation_db, credits_service, small, asked(org_id, variants=4))
    for item in begun(generation_db, claim(generation_db, free=2)):
        fail_one(generation_db, item)

    handlers.submit(generation_db, credits_service, small, asked(org_id, variants=2))

    assert jobs_in(generation_db) == 2


def test_a_job_that_was_taken_in_is_answered_again_however_full_it_is(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    first = asked(new_id("org"), variants=4)
    handlers.submit(generation_db, credits_service, small, first)

    again = handlers.submit(generation_db, credits_service, small, first)

    assert again["job"]["id"] == first.job_id


def test_of_several_at_once_the_first_have_the_room_there_is(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    org_id = new_id("org")
    several = [asked(org_id, variants=number) for number in (2, 3, 2, 1)]

    outcomes = handlers.submit_many(generation_db, credits_service, small, several)

    assert [isinstance(one, QueueFull) for one in outcomes] == [False, True, False, True]
    assert jobs_in(generation_db) == 2


def test_a_job_that_will_never_fit_is_told_so(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    with pytest.raises(LimitExceeded):
        handlers.submit(generation_db, credits_service, small, asked(new_id("org"), variants=5))


def test_an_organization_may_have_a_cap_of_its_own(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    org_id = new_id("org")
    with generation_db.transaction() as session:
        session.add(Share(org_id=org_id, open_generations=8))

    handlers.submit(generation_db, credits_service, small, asked(org_id, variants=8))

    refusal(generation_db, credits_service, small, asked(org_id, variants=1))


def test_many_at_the_same_time_do_not_pass_the_cap(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    org_id = new_id("org")
    refused: list[QueueFull] = []

    def submit() -> None:
        try:
            handlers.submit(generation_db, credits_service, small, asked(org_id, variants=1))
        except QueueFull as problem:
            refused.append(problem)

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (jobs_in(generation_db), len(refused)) == (4, 6)


def test_test_keys_have_a_limit_of_their_own(
    generation_db: Database, credits_service: HoldingCredits, small: Engine
) -> None:
    org_id = new_id("org")
    handlers.submit(generation_db, credits_service, small, asked(org_id, variants=4))

    handlers.submit(generation_db, credits_service, small, asked(org_id, variants=4, livemode=False))

    assert jobs_in(generation_db) == 2
