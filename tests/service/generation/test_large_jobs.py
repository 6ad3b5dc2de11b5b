"""Jobs of many generations: what they cost the database, and that nothing is mixed up in them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from services.generation import endings, handlers, queries, sweeper
from services.generation.engine import Engine
from services.generation.models import Generation, Job, Operation
from services.generation.submissions import Submission
from services.generation.workflows import studio
from shared.database import Database
from shared.ids import new_id
from shared.problems import HoldRefused, QuotaExceeded
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import ask_again, job_of, reserved, told


def a_studio(*, products: int, **terms: str) -> Submission:
    """Order every product in eight variants."""
    uploads = [new_id("ast") for _ in range(products)]
    return a_submission(
        workflow="studio",
        inputs={"upload_ids": uploads, "style": "modern", "room_type": "bedroom", "variants": 8},
        assets={upload: {"key": f"assets/org/{upload}.jpg", "sha256": "0" * 64} for upload in uploads},
        **terms,
    )


@contextmanager
def counted(db: Database) -> Iterator[list[int]]:
    """Give a list that has a number for each statement sent to the database: for how many rows of values.

    Listeners are woken at most every 20 ms: how often depends on the clock.
    """
    sent: list[int] = []

    def count(_connection, _cursor, statement, parameters, _context, executemany) -> None:
        if not statement.startswith("NOTIFY"):
            sent.append(len(parameters) if executemany else 1)

    sa.event.listen(db.engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", count)


def statements_of_a_submit(
    db: Database, engine: Engine, *, products: int, means: int | None, on_insufficient: str
) -> int:
    credits_service = HoldingCredits()
    credits_service.means = means
    with counted(db) as sent:
        try:
            handlers.submit(db, credits_service, engine, a_studio(products=products, on_insufficient=on_insufficient))
        except HoldRefused:
            assert on_insufficient == "reject"
    return sum(sent)


@pytest.mark.parametrize(
    ("means", "on_insufficient"),
    [(None, "reject"), (1, "partial"), (1, "pause"), (0, "pause"), (0, "reject")],
    ids=["all held", "a part, the rest fails", "a part, the rest waits", "nothing, all wait", "nothing, rejected"],
)
def test_submitting_a_large_job_takes_no_more_statements_than_a_small_one(
    generation_db: Database, engine: Engine, means: int | None, on_insufficient: str
) -> None:
    small, large = (
        statements_of_a_submit(generation_db, engine, products=products, means=means, on_insufficient=on_insufficient)
        for products in (1, 60)
    )

    assert large == small


def test_ending_a_large_job_and_hearing_late_of_its_lines_takes_no_more_statements_than_a_small_one(
    generation_db: Database, engine: Engine
) -> None:
    taken = []
    for products in (1, 60):
        asked, credits_service = a_studio(products=products, on_insufficient="partial"), HoldingCredits()
        credits_service.means = 1
        handlers.submit(generation_db, credits_service, engine, asked)
        lines = [line["line_id"] for line in credits_service.calls[0]["lines"]]
        with counted(generation_db) as sent:
            told(generation_db, reserved(asked.job_id, lines))
            with generation_db.transaction() as session:
                job = endings.lock_jobs(session, [asked.job_id])[asked.job_id]
                endings.end_job(session, job, code="cancelled", now=endings.database_now(session))
        taken.append(sum(sent))

    assert taken[0] == taken[1]


def test_each_generation_of_a_large_job_is_written_as_it_was_planned(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_studio(products=60)

    handlers.submit(generation_db, credits_service, engine, asked)

    with generation_db.transaction() as session:
        job = session.get_one(Job, asked.job_id)
        pairs = session.execute(
            sa.select(Generation, Operation)
            .join(Operation, Operation.generation_id == Generation.id)
            .where(Generation.job_id == asked.job_id)
            .order_by(Generation.number)
        ).all()
    planned = studio.plan(job.inputs, asked.assets, pairs[0].Generation.seed)
    assert len(pairs) == len(planned) == 480
    for number, (pair, item) in enumerate(zip(pairs, planned, strict=True), start=1):
        generation, operation, (call,) = pair.Generation, pair.Operation, item.operations
        assert (generation.number, generation.seed, generation.settings) == (number, item.seed, item.settings)
        assert (generation.sku, generation.amount, generation.style) == (item.sku, 10, item.style)
        assert (generation.org_id, generation.product_id, generation.result) == (asked.org_id, None, None)
        assert (operation.prompt, operation.prompt_version, operation.seed) == (
            call.prompt,
            call.prompt_version,
            call.seed,
        )
        assert operation.inputs == {"sources": list(call.sources), "parameters": call.parameters}
        assert (operation.user_id, operation.attempt, operation.fence, operation.output) == (None, 0, 0, None)
        assert operation.due_at is not None


def test_a_large_job_that_waits_is_asked_for_in_steps_and_goes_on_while_they_are_held(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = 10
    asked = a_studio(products=30, on_insufficient="pause")
    handlers.submit(generation_db, credits_service, engine, asked)
    credits_service.means = None

    ask_again(generation_db, credits_service)
    due = ask_as_it_is_due(generation_db, credits_service)

    first, *steps = ([line["line_id"] for line in call["lines"]] for call in credits_service.calls)
    assert steps == [first[10:210], first[210:]]
    assert due == 1
    job = job_of(generation_db, asked.job_id)
    assert (job["reserved"], job["waiting_reason"], job["warnings"]) == (2400, "free_worker", [])
    assert ask_as_it_is_due(generation_db, credits_service) == 0


def test_a_large_job_that_waits_asks_once_where_there_is_still_nothing(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    credits_service.means = 10
    asked = a_studio(products=30, on_insufficient="pause")
    handlers.submit(generation_db, credits_service, engine, asked)

    ask_again(generation_db, credits_service)

    assert [len(call["lines"]) for call in credits_service.calls] == [240, 200]
    assert ask_as_it_is_due(generation_db, credits_service) == 0


def test_a_large_job_that_was_refused_tells_why_of_every_generation(generation_db: Database, engine: Engine) -> None:
    credits_service = HoldingCredits()
    credits_service.means = 0
    asked = a_studio(products=2)

    with pytest.raises(QuotaExceeded):
        handlers.submit(generation_db, credits_service, engine, asked)

    job = job_of(generation_db, asked.job_id)
    assert (job["status"], job["counts"]["failed"]) == ("rejected", 16)
    assert {item["failure"]["reason"] for item in job["generations"]} == {"quota_exceeded"}


def ask_as_it_is_due(db: Database, credits_service: HoldingCredits) -> int:
    return sweeper.reserve_again(db, credits_service)


def test_a_list_of_jobs_has_the_first_generations_of_each_and_can_do_without(
    generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    asked = a_studio(products=3)
    handlers.submit(generation_db, credits_service, engine, asked)

    with generation_db.transaction(org_id=asked.org_id, livemode=True) as session:
        (listed,) = queries.jobs(session, org_id=asked.org_id, livemode=True)["data"]
        (bare,) = queries.jobs(session, org_id=asked.org_id, livemode=True, generations=0)["data"]
        single = queries.job(session, org_id=asked.org_id, livemode=True, job_id=asked.job_id)

    assert [one["number"] for one in listed["generations"]] == [one["number"] for one in single["generations"]][:8]
    assert (len(single["generations"]), bare["generations"]) == (24, [])
    assert {**listed, "generations": []} == bare
