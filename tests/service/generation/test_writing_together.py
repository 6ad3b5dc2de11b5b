"""Group commit of a worker's writes: each operation's outcome is its own, and as it would be alone."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import recording, sweeper, writes
from services.generation.adopting import Result
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Attempt, Base, Generation, Image, Job, Operation
from services.generation.operations import Answered, GiveUp, Repeat
from services.generation.sweeper import Suspects
from services.generation.writes import Ending, Sending, Writes
from shared.database import Database
from shared.events import GenerationCompleted, GenerationStarted, JobFinished
from tests.service.generation.steps import (
    a_stored_image,
    begun,
    claim,
    job_of,
    lapse,
    names,
    published,
    submitted,
)

ANSWER = Answered(
    model="scripted-2", cost_microusd=5, prompt_tokens=7, result={"rooms": 1}, provenance={"digital_source_type": "x"}
)
# What differs between any two of a kind.
OWN = {"id", "generation_id", "job_id", "operation_id", "org_id", "seed", "key", "thumbnail_key", "number", "position"}
TIMES = {"started_at", "finished_at", "completed_at", "ended_at", "sent_at", "created_at", "duration_ms", "due_at"}


def sent(db: Database, engine: Engine, *, jobs: int = 1, variants: int = 2) -> list[Claimed]:
    """Have so many jobs submitted, and every operation of them claimed and sent."""
    for _ in range(jobs):
        submitted(db, engine, variants=variants)
    claimed = claim(db, free=50)
    assert writes.send(db, [Sending(item=item, digest="d") for item in claimed]) == [1] * (jobs * variants)
    return claimed


def a_result(item: Claimed) -> Result:
    return Result(item=item, answer=ANSWER, images=[a_stored_image(item)])


def stale(item: Claimed) -> Claimed:
    """Return a claim of the same operation that was lost to this one."""
    return replace(item, fence=item.fence - 1)


def rows_of(db: Database, kind: type[Base], **of: Any) -> list[dict[str, Any]]:
    with db.transaction() as session:
        rows = session.scalars(sa.select(kind).filter_by(**of)).all()
        columns = [column.key for column in sa.inspect(kind).columns]
        return [{name: getattr(row, name) for name in columns} for row in rows]


def test_a_lost_claim_is_not_sent_and_the_others_are(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=3)
    one, two, three = claim(generation_db)

    tries = writes.send(
        generation_db, [Sending(item=item, digest="d") for item in (stale(one), one, two, stale(three))]
    )

    assert tries == [None, 1, 1, None]
    assert {each["operation_id"] for each in rows_of(generation_db, Attempt)} == {one.id, two.id}


def test_what_is_sent_has_begun_and_is_told_once(generation_db: Database, engine: Engine) -> None:
    first = submitted(generation_db, engine, variants=2)
    second = submitted(generation_db, engine, variants=1)
    items = claim(generation_db)

    writes.send(generation_db, [Sending(item=item, digest="d") for item in items])
    again = writes.send(generation_db, [Sending(item=item, digest="d") for item in items])

    started = [event for event in published(generation_db) if isinstance(event, GenerationStarted)]
    assert again == [None] * 3
    assert sorted(event.generation_id for event in started) == sorted(item.generation_id for item in items)
    assert [job_of(generation_db, job_id)["status"] for job_id in (first, second)] == ["running"] * 2


def test_what_was_cancelled_before_it_was_sent_is_not_sent(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1)
    submitted(generation_db, engine, variants=1)
    gone, going = claim(generation_db)
    with generation_db.transaction() as session:
        events = recording.failure(session, gone, decision=GiveUp(code="cancelled", detail=""))
        generation_db.publish(session, events)

    tries = writes.send(generation_db, [Sending(item=item, digest="d") for item in (gone, going)])

    assert tries == [None, 1]


def test_a_lost_claim_is_not_stored_and_the_others_are(generation_db: Database, engine: Engine) -> None:
    one, two = sent(generation_db, engine)

    noted = writes.note_storing(generation_db, [stale(one), two, one])

    assert noted == ["lost", "well", "well"]


def test_noting_again_what_was_noted_is_no_loss(generation_db: Database, engine: Engine) -> None:
    items = sent(generation_db, engine)
    writes.note_storing(generation_db, items)

    again = writes.note_storing(generation_db, items)

    assert again == ["well", "well"]


def test_results_of_many_jobs_end_each_of_them_once(generation_db: Database, engine: Engine) -> None:
    items = sent(generation_db, engine, jobs=5, variants=3)

    adopted = writes.record(engine, generation_db, [a_result(item) for item in items])

    told = published(generation_db)
    ended = [event.job_id for event in told if isinstance(event, JobFinished)]
    assert adopted == [True] * 15
    assert sorted(ended) == sorted({item.job_id for item in items})
    assert len({event.generation_id for event in told if isinstance(event, GenerationCompleted)}) == 15
    for job_id in ended:
        job = job_of(generation_db, job_id)
        assert (job["status"], job["charged"], job["counts"]["succeeded"]) == ("succeeded", 30, 3)
        of_job = [type(event) for event in told if getattr(event, "job_id", None) == job_id]
        assert of_job[-4:] == [GenerationCompleted] * 3 + [JobFinished]


def test_one_result_among_many_is_recorded_as_it_would_be_alone(generation_db: Database, engine: Engine) -> None:
    alone, *others = sent(generation_db, engine, jobs=3, variants=1)
    with generation_db.transaction() as session:
        session.execute(sa.update(Generation).values(settings={"parent_image_id": "img_before"}))
    with generation_db.transaction() as session:
        recorded = recording.success(
            session, engine, alone, answer=ANSWER, images=[a_stored_image(alone), a_stored_image(alone)]
        )
        generation_db.publish(session, recorded.events)

    results = [replace(a_result(item), images=[a_stored_image(item), a_stored_image(item)]) for item in others]
    writes.record(engine, generation_db, results)

    def written(item: Claimed) -> list[Any]:
        rows = [
            *rows_of(generation_db, Job, id=item.job_id),
            *rows_of(generation_db, Generation, id=item.generation_id),
            *rows_of(generation_db, Operation, id=item.id),
            *rows_of(generation_db, Attempt, operation_id=item.id),
            *rows_of(generation_db, Image, operation_id=item.id),
        ]
        shown: list[Any] = [
            {name: value is None if name in TIMES or name.endswith("_at") else value for name, value in row.items()}
            for row in rows
        ]
        for row in shown:
            for name in OWN | {"correlation_id", "inputs", "assets", "fingerprint", "output", "worker"}:
                row.pop(name, None)
        return shown

    assert len(written(alone)) == 6
    assert written(alone)[-1]["parent_id"] == "img_before"
    for item in others:
        assert written(item) == written(alone)
        (output,) = [row["output"] for row in rows_of(generation_db, Operation, id=item.id)]
        images = [row["id"] for row in rows_of(generation_db, Image, operation_id=item.id)]
        assert (sorted(output["images"]), output["result"]) == (sorted(images), {"rooms": 1})


def test_a_late_result_among_many_is_logged_with_its_cost_and_no_more(generation_db: Database, engine: Engine) -> None:
    items = sent(generation_db, engine, jobs=3, variants=1)
    late = items[1]
    with generation_db.transaction() as session:
        generation_db.publish(
            session, recording.failure(session, late, decision=GiveUp(code="deadline_exceeded", detail=""))
        )

    adopted = writes.record(engine, generation_db, [a_result(item) for item in items])

    assert adopted == [True, False, True]
    assert names(generation_db).count("GenerationCompleted") == 2
    assert rows_of(generation_db, Image, operation_id=late.id) == []
    assert [row["status"] for row in rows_of(generation_db, Attempt, operation_id=late.id)] == ["failed"]


def test_two_claims_of_one_operation_in_one_batch_make_one_result(generation_db: Database, engine: Engine) -> None:
    items = sent(generation_db, engine, variants=1)
    lapse(generation_db)
    sweeper.recover_lost_operations(generation_db, engine, Suspects(patience_seconds=0))
    (new,) = begun(generation_db, claim(generation_db))
    (old,) = items

    adopted = writes.record(engine, generation_db, [a_result(old), a_result(new)])

    assert new.fence > old.fence
    assert adopted == [False, True]
    assert names(generation_db).count("GenerationCompleted") == 1


def test_recording_again_what_was_recorded_tells_nothing_twice(generation_db: Database, engine: Engine) -> None:
    items = sent(generation_db, engine, variants=3)
    results = [a_result(item) for item in items]
    writes.record(engine, generation_db, results[:2])

    adopted = writes.record(engine, generation_db, results)

    assert adopted == [True] * 3
    assert len(rows_of(generation_db, Image)) == 3
    assert names(generation_db).count("GenerationCompleted") == 3
    assert names(generation_db).count("JobFinished") == 1


def test_good_and_bad_ends_of_one_job_go_together(generation_db: Database, engine: Engine) -> None:
    items = sent(generation_db, engine, variants=4)
    again = Repeat(after_seconds=0, code="rate_limited", detail="429")

    adopted = writes.record(
        engine,
        generation_db,
        [
            a_result(items[0]),
            Ending(item=items[1], decision=GiveUp(code="invalid_input", detail="no")),
            Ending(item=items[2], decision=again),
            a_result(items[3]),
        ],
    )

    job = job_of(generation_db, items[0].job_id)
    assert adopted == [True, False, False, True]
    assert (job["finished_at"], job["counts"]["succeeded"], job["counts"]["failed"]) == (None, 2, 1)
    assert [item.id for item in claim(generation_db)] == [items[2].id]


def test_what_is_out_of_the_ordinary_is_recorded_among_the_ordinary(generation_db: Database, engine: Engine) -> None:
    usual, *cancelled = sent(generation_db, engine, jobs=2, variants=1)
    with generation_db.transaction() as session:
        session.execute(sa.update(Job).where(Job.id == cancelled[0].job_id).values(status="cancelling"))

    adopted = writes.record(engine, generation_db, [a_result(item) for item in (usual, *cancelled)])

    assert adopted == [True, True]
    assert names(generation_db).count("JobFinished") == 2


def together(items: Sequence[Any], write: Callable[[Any], Any]) -> list[Any]:
    """Write all at the same time; return what came of each, exceptions too."""
    with ThreadPoolExecutor(len(items)) as pool:
        done = [pool.submit(write, item) for item in items]
        return [each.exception() or each.result() for each in done]


def test_a_result_the_database_refuses_fails_alone(
    generation_db: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(of: Engine, db: Database, outcomes: Sequence[Result | Ending]) -> list[bool]:
        sizes.append(len(outcomes))
        return record(of, db, outcomes)

    record = writes.record
    monkeypatch.setattr(writes, "record", counted)
    items = sent(generation_db, engine, jobs=3, variants=4)
    results = [a_result(item) for item in items]
    # The name of another's image: the constraint of the table refuses it.
    results[5] = replace(results[5], images=[replace(results[5].images[0], key=results[0].images[0].key)])
    of_process = Writes(generation_db, engine)
    of_process.record(results[0])

    done = together(results[1:], of_process.record)

    failures = [each for each in done if isinstance(each, Exception)]
    assert max(sizes) > 1
    assert [type(each) for each in failures] == [sa.exc.IntegrityError]
    assert done.count(True) == 10
    assert len(rows_of(generation_db, Image)) == 11


def test_batches_of_the_same_jobs_in_any_order_do_not_lock_each_other_out(
    generation_db: Database, engine: Engine
) -> None:
    items = sent(generation_db, engine, jobs=10, variants=5)
    chance = random.Random(1)  # noqa: S311  a shuffle that can be repeated, no secret
    chance.shuffle(items)
    batches = [[a_result(item) for item in items[place::10]] for place in range(10)]

    done = together(batches, lambda batch: writes.record(engine, generation_db, batch))

    assert done == [[True] * 5] * 10
    assert names(generation_db).count("JobFinished") == 10


def test_what_is_being_stored_leaves_its_place_at_the_provider_and_not_its_organizations(
    generation_db: Database, engine: Engine
) -> None:
    submitted(generation_db, engine, variants=4)
    full = begun(generation_db, claim(generation_db, free=2, limit=2))
    before = claim(generation_db, limit=2)
    writes.note_storing(generation_db, full)

    of_organization = claim(generation_db, limit=2, per_organization=2)
    after = claim(generation_db, limit=2)

    assert (len(full), len(before), len(of_organization), len(after)) == (2, 0, 0, 2)
