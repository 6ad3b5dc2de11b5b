import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import endings, queries, recording, sweeper
from services.generation.engine import Engine
from services.generation.models import Generation, Image, Job, Operation
from services.generation.operations import GiveUp, Repeat
from services.generation.sweeper import Suspects
from services.generation.workflows import PlannedOperation, registered
from shared.database import Database
from shared.events import GenerationFailed
from shared.ids import new_id
from shared.problems import NotFound
from tests.service.generation.steps import (
    adopt,
    begun,
    claim,
    fail_one,
    job_of,
    lapse,
    names,
    published,
    submitted,
)


def test_the_last_generation_ends_the_job_and_names_every_line(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)

    for item in begun(generation_db, claim(generation_db)):
        assert adopt(generation_db, engine, item)

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert job_of(generation_db, job_id)["charged"] == 20
    assert names(generation_db)[-3:] == ["GenerationCompleted", "GenerationCompleted", "JobFinished"]
    finished = published(generation_db)[-1]
    assert [(line.outcome, line.amount) for line in finished.lines] == [("captured", 10)] * 2  # type: ignore[attr-defined]


def test_a_worker_past_its_lease_cannot_write(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (zombie,) = begun(generation_db, claim(generation_db))
    lapse(generation_db)
    sweeper.recover_lost_operations(generation_db, engine, Suspects(patience_seconds=0))
    (successor,) = begun(generation_db, claim(generation_db))

    written_late = adopt(generation_db, engine, zombie)
    written = adopt(generation_db, engine, successor)

    assert (written_late, written) == (False, True)
    with generation_db.transaction() as session:
        (image,) = session.scalars(sa.select(Image))
        assert image.key.endswith(f"/{successor.fence}.jpg")
    assert job_of(generation_db, job_id)["charged"] == 10


def test_a_result_after_the_refund_is_logged_with_its_cost_and_changes_nothing(
    generation_db: Database, engine: Engine
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))
    with generation_db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        generation_db.publish(
            session, endings.end_job(session, job, code="deadline_exceeded", now=endings.database_now(session))
        )
    told = names(generation_db)

    adopted = adopt(generation_db, engine, item)

    assert not adopted
    assert names(generation_db) == told
    assert job_of(generation_db, job_id)["status"] == "expired"
    with generation_db.transaction() as session:
        operation = session.get_one(Operation, item.id)
        assert (operation.status, operation.cost_microusd) == ("cancelled", 5)
        assert session.scalars(sa.select(Image)).all() == []


def test_an_operation_of_an_ended_generation_is_not_begun(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    claimed = claim(generation_db)
    with generation_db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        endings.end_job(session, job, code="cancelled", now=endings.database_now(session))

    assert begun(generation_db, claimed) == []


def test_a_repeated_operation_is_due_only_after_its_pause(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))

    with generation_db.transaction() as session:
        recording.repeat(session, item, decision=Repeat(after_seconds=60, code="capacity", detail="busy"))

    assert claim(generation_db) == []
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE operations SET due_at = clock_timestamp()"))
    assert [again.attempt for again in claim(generation_db)] == [2]


def test_one_failed_variant_of_two_makes_a_partial_success(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    good, bad = begun(generation_db, claim(generation_db))
    adopt(generation_db, engine, good)

    with generation_db.transaction() as session:
        decision = GiveUp(code="provider_error", detail="HTTP 500")
        generation_db.publish(session, recording.failure(session, bad, decision=decision))

    job = job_of(generation_db, job_id)
    assert (job["status"], job["charged"], job["refunded"]) == ("partially_succeeded", 10, 10)
    assert sorted(names(generation_db)[-3:]) == ["GenerationCompleted", "GenerationFailed", "JobFinished"]


def test_parallel_ends_of_one_job_tell_it_once(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=8)
    items = begun(generation_db, claim(generation_db))

    threads = [threading.Thread(target=adopt, args=(generation_db, engine, item)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(names(generation_db))["JobFinished"] == 1
    assert Counter(names(generation_db))["GenerationCompleted"] == 8


def test_the_row_of_a_state_that_must_not_follow_is_refused_by_the_database(
    generation_db: Database, engine: Engine
) -> None:
    job_id = submitted(generation_db, engine)

    with pytest.raises(sa.exc.IntegrityError), generation_db.transaction() as session:
        session.execute(sa.update(Job).where(Job.id == job_id).values(open_generations=0))


@pytest.mark.parametrize("livemode", [True, False])
@pytest.mark.parametrize("differs", ["org_id", "livemode"])
def test_reads_name_organization_and_mode_even_where_the_database_would_show_every_row(
    generation_db: Database, engine: Engine, *, livemode: bool, differs: str
) -> None:
    job_id = submitted(generation_db, engine, variants=1, livemode=livemode)
    (item,) = begun(generation_db, claim(generation_db))
    adopt(generation_db, engine, item)
    owner: dict[str, Any] = {"org_id": item.org_id, "livemode": livemode}
    another = {**owner, differs: new_id("org") if differs == "org_id" else not livemode}

    with generation_db.transaction() as session:
        own, foreign = ([read(session, **who)["data"] for read in PAGES] for who in (owner, another))
        image_id = own[1][0]["id"]

        assert [len(page) for page in own] == [1, 1]
        assert foreign == [[], []]
        with pytest.raises(NotFound):
            queries.job(session, **another, job_id=job_id)
        with pytest.raises(NotFound):
            queries.job_generations(session, **another, job_id=job_id)
        with pytest.raises(NotFound):
            queries.image(session, **another, image_id=image_id)


def test_what_a_result_costs_less_than_was_held_is_told_as_charged(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))

    with generation_db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        generation = session.get_one(Generation, item.generation_id)
        now = endings.database_now(session)
        completed, finished = endings.complete(session, job, generation, now=now, charged=4)

    assert completed.amount == 4  # type: ignore[attr-defined]
    assert [(line.outcome, line.amount) for line in finished.lines] == [("captured", 4)]  # type: ignore[attr-defined]
    shown = job_of(generation_db, job_id)
    assert (shown["charged"], shown["refunded"], shown["generations"][0]["charged"]) == (4, 6, 4)


def test_a_failure_tells_what_its_operations_cost_us(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))
    with generation_db.transaction() as session:
        session.execute(sa.update(Operation).values(cost_microusd=7))

    fail_one(generation_db, item)

    (failed,) = [event for event in published(generation_db) if isinstance(event, GenerationFailed)]
    assert failed.provider_cost_microusd == 7


def test_a_generation_leads_to_its_entries_in_the_ledger(generation_db: Database, engine: Engine) -> None:
    (generation, *_) = job_of(generation_db, submitted(generation_db, engine))["generations"]

    assert generation["entries_url"] == f"/v1/credits/entries?generation={generation['id']}"


PAGES = (queries.jobs, queries.images)


def test_what_should_follow_and_nobody_can_do_ends_the_generation_and_is_given_back(
    generation_db: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch = PlannedOperation(name="image.sketch", prompt="", prompt_version="1", seed=1)
    follows = replace(registered()["staging"], follow_up=lambda _settings, _done: [sketch])
    monkeypatch.setitem(registered(), "staging", follows)  # type: ignore[arg-type]  # the cached dict itself
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))

    adopt(generation_db, engine, item)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["refunded"]) == ("failed", 10)
    assert job["generations"][0]["failure"]["reason"] == "internal_error"
