import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import claims, endings, handlers, queries, recording, sweeper
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Generation, Image, Job, Operation
from services.generation.operations import Answered, GiveUp, MadeImage, Outcome, Refused, Repeat
from services.generation.providers import Request
from services.generation.recording import StoredImage
from services.generation.scheduler import Scheduler
from services.generation.sweeper import Suspects
from shared.database import Database
from shared.ids import new_id
from shared.problems import NotFound
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, ScriptedProvider, picture_of
from tests.polling import until
from tests.service.generation.conftest import a_submission
from tests.service.generation.test_submitting import published

SOURCE = "assets/org/a.jpg"


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


def submitted(db: Database, engine: Engine, *, variants: int = 2, org_id: str | None = None) -> str:
    asked = a_submission(org_id=org_id or new_id("org"))
    asked = replace(asked, inputs={**asked.inputs, "variants": variants})
    handlers.submit(db, HoldingCredits(), engine, asked)
    return asked.job_id


def claim(db: Database, *, free: int = 10, per_organization: int = 20, limit: int = 100) -> list[Claimed]:
    with db.transaction() as session:
        return claims.claim(session, worker="w", free=free, limits={"local": limit}, per_organization=per_organization)


def begun(db: Database, claimed: Sequence[Claimed]) -> list[Claimed]:
    with db.transaction() as session:
        live, events = claims.begin(session, claimed)
        db.publish(session, events)
        return live


def lapse(db: Database) -> None:
    """Let every lease run out."""
    with db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE operations SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL"
            )
        )


def lapsed(db: Database) -> list[Claimed]:
    with db.transaction() as session:
        return claims.expired(session)


def a_stored_image(item: Claimed) -> StoredImage:
    image_id = new_id("img")
    return StoredImage(
        image_id=image_id,
        key=f"images/{item.org_id}/{image_id}/{item.fence}.jpg",
        thumbnail_key=f"images/{item.org_id}/{image_id}/{item.fence}.thumb.jpg",
        content_type="image/jpeg",
        sha256="0" * 64,
        crc32=1,
        bytes=10,
        width=64,
        height=48,
    )


def a_claim(*, fence: int) -> Claimed:
    return Claimed(
        id="op_1",
        org_id="org",
        job_id="job",
        generation_id="gen",
        name="image.stage",
        provider="local",
        model_requested="m",
        prompt="",
        seed=1,
        inputs={},
        makes_image=True,
        attempt=1,
        fence=fence,
    )


def adopt(db: Database, engine: Engine, item: Claimed) -> bool:
    with db.transaction() as session:
        recorded = recording.success(
            session, engine, item, answer=Answered(model="scripted-1", cost_microusd=5), images=[a_stored_image(item)]
        )
        db.publish(session, recorded.events)
        return recorded.adopted


@contextmanager
def at_work(db: Database, store: ObjectStore, engine: Engine) -> Iterator[None]:
    """Run a scheduler in the background."""
    stop = threading.Event()
    scheduler = Scheduler(db, store, engine, worker="w", slots=4, per_organization=20)
    thread = threading.Thread(target=scheduler.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def job_of(db: Database, job_id: str) -> dict[str, object]:
    with db.transaction() as session:
        return queries.job(session, org_id=session.get_one(Job, job_id).org_id, job_id=job_id)


def ended(db: Database, job_id: str) -> dict[str, object]:
    return until(lambda: job if (job := job_of(db, job_id))["finished_at"] else None, what="the job's end")


def names(db: Database) -> list[str]:
    return [type(item).__name__ for item in published(db)]


# --- claiming -----------------------------------------------------------------------------------------------------


def test_an_operation_is_claimed_by_one_worker_only(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=8)

    claimed = claim(generation_db, free=5) + claim(generation_db, free=5)

    assert len(claimed) == 8
    assert len({item.id for item in claimed}) == 8


def test_operations_are_not_due_before_the_credits_are_held(generation_db: Database, engine: Engine) -> None:
    asked = a_submission()
    with generation_db.transaction() as session:
        line = handlers.workflow("staging")
        handlers.take_in(session, engine, line, asked, inputs=handlers.checked_inputs(line, asked.inputs))

    assert claim(generation_db) == []


def test_a_small_organization_is_served_beside_a_large_one(generation_db: Database, engine: Engine) -> None:
    large, small = new_id("org"), new_id("org")
    for _ in range(5):
        submitted(generation_db, engine, variants=8, org_id=large)
    submitted(generation_db, engine, variants=2, org_id=small)

    turns = Counter(item.org_id for item in claim(generation_db, free=4))

    assert turns == {large: 2, small: 2}


def test_what_an_organization_has_at_work_counts_against_its_next_turn(generation_db: Database, engine: Engine) -> None:
    busy, fresh = new_id("org"), new_id("org")
    submitted(generation_db, engine, variants=8, org_id=busy)
    claim(generation_db, free=3)
    submitted(generation_db, engine, variants=3, org_id=fresh)

    turns = Counter(item.org_id for item in claim(generation_db, free=3))

    assert turns == {fresh: 3}


def test_an_organization_never_has_more_at_work_than_its_limit(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=8)

    claimed = claim(generation_db, per_organization=3) + claim(generation_db, per_organization=3)

    assert len(claimed) == 3


def test_a_provider_never_has_more_at_work_than_its_limit(generation_db: Database, engine: Engine) -> None:
    for _ in range(4):
        submitted(generation_db, engine, variants=2)

    claimed = claim(generation_db, limit=3) + claim(generation_db, limit=3)

    assert len(claimed) == 3


def test_a_heartbeat_keeps_the_lease_and_names_what_was_lost(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine)
    first, second = claim(generation_db)
    stale = replace(second, fence=second.fence - 1)

    with generation_db.transaction() as session:
        kept = claims.heartbeat(session, [first, stale])

    assert kept == {first.id}


# --- recording ----------------------------------------------------------------------------------------------------


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


def test_leases_that_ran_out_while_the_database_was_away_are_not_held_against_a_worker_that_is_alive(
    generation_db: Database, engine: Engine
) -> None:
    submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))
    lapse(generation_db)
    suspects = Suspects()
    sweeper.recover_lost_operations(generation_db, engine, suspects)

    with generation_db.transaction() as session:
        claims.heartbeat(session, [item])
    sweeper.recover_lost_operations(generation_db, engine, suspects)

    assert adopt(generation_db, engine, item)


def test_a_lease_is_lost_only_when_it_stays_run_out_for_longer_than_a_heartbeat() -> None:
    suspects = Suspects(patience_seconds=5)
    item, again = a_claim(fence=1), a_claim(fence=2)

    assert suspects.confirmed([item], now=0) == []
    assert suspects.confirmed([item, again], now=4.9) == []
    assert suspects.confirmed([item, again], now=5) == [item]
    assert suspects.confirmed([], now=6) == []
    assert suspects.confirmed([item], now=20) == []


def test_a_lease_that_was_prolonged_before_the_lock_is_not_recovered(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))

    with generation_db.transaction() as session:
        lapsed = claims.has_lapsed(session, item)

    assert not lapsed


def test_a_job_that_cannot_be_ended_does_not_keep_the_others_from_it(generation_db: Database, engine: Engine) -> None:
    stuck, other = sorted(submitted(generation_db, engine) for _ in range(2))
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 s'"))
        session.execute(sa.text("UPDATE jobs SET open_generations = 1 WHERE id = :id"), {"id": stuck})

    sweeper.end_overdue_jobs(generation_db)

    assert (job_of(generation_db, stuck)["status"], job_of(generation_db, other)["status"]) == ("queued", "expired")


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


def test_a_job_past_its_deadline_expires_and_gives_everything_back(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 s'"))

    sweeper.end_overdue_jobs(generation_db)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["refunded"]) == ("expired", 20)
    assert claim(generation_db) == []


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


# --- the scheduler, end to end on the real store ------------------------------------------------------------------


def test_the_scheduler_brings_a_job_home(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    job_id = submitted(generation_db, engine)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert job["status"] == "succeeded"
    assert [request.sources for request in provider.requests] == [[b"a photo"], [b"a photo"]]
    with generation_db.transaction() as session:
        for image in session.scalars(sa.select(Image)):
            measured = store.measure(image.key)
            assert (measured.sha256, measured.bytes, measured.crc32) == (image.sha256, image.bytes, image.crc32)
            assert store.stat(image.thumbnail_key) is not None


def test_a_refusal_that_may_pass_is_tried_again_and_one_that_may_not_ends_the_generation(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    provider.script = [
        Refused(code="result_corrupt", detail="half a JPEG"),
        Refused(code="invalid_input", detail="422"),
    ]
    job_id = submitted(generation_db, engine)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert (job["status"], job["charged"], job["refunded"]) == ("partially_succeeded", 10, 10)
    assert len(provider.requests) == 3


def test_a_result_that_is_no_image_is_not_stored(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    garbage = Answered(images=(recording_image(b"<html>"),), model="scripted-1")
    provider.script = [garbage, garbage, garbage, garbage]
    job_id = submitted(generation_db, engine, variants=1)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert job["status"] == "failed"
    assert list(store.keys("images/")) == []


def test_a_missing_source_fails_the_generation_without_a_call(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    store.delete(SOURCE)
    job_id = submitted(generation_db, engine, variants=1)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert provider.requests == []
    with generation_db.transaction() as session:
        (generation,) = session.scalars(sa.select(Generation).where(Generation.job_id == job_id))
        assert generation.failure_reason == "source_missing"
    assert job["refunded"] == 10


def test_the_bytes_of_a_late_result_are_deleted(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    def expire_meanwhile(request: Request) -> Outcome:
        with generation_db.transaction() as session:
            (job,) = endings.lock_jobs(session, [session.scalars(sa.select(Job.id)).one()]).values()
            endings.end_job(session, job, code="deadline_exceeded", now=endings.database_now(session))
        return picture_of(request)

    provider.script = [expire_meanwhile]
    job_id = submitted(generation_db, engine, variants=1)

    with at_work(generation_db, store, engine):
        ended(generation_db, job_id)
        until(lambda: provider.requests)

    assert job_of(generation_db, job_id)["status"] == "expired"
    assert list(store.keys("images/")) == []


def failing_once(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``work``, but for an error nobody foresaw at its first call."""
    errors = [RuntimeError("nobody foresaw this")]

    def stumbling(*args: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return work(*args, **options)

    return stumbling


def test_an_error_nobody_foresaw_does_not_end_the_claiming(
    generation_db: Database, store: ObjectStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "claim", failing_once(claims.claim))
    job_id = submitted(generation_db, engine, variants=1)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert job["status"] == "succeeded"


def test_an_error_nobody_foresaw_does_not_end_the_heartbeats(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def until_the_lease_is_prolonged(request: Request) -> Outcome:
        lapse(generation_db)
        until(lambda: not lapsed(generation_db), what="a heartbeat")
        return picture_of(request)

    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(claims, "heartbeat", failing_once(claims.heartbeat))
    provider.script = [until_the_lease_is_prolonged]
    job_id = submitted(generation_db, engine, variants=1)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert job["status"] == "succeeded"


def recording_image(data: bytes) -> MadeImage:
    return MadeImage(data=data, content_type="image/jpeg")


def test_the_row_of_a_state_that_must_not_follow_is_refused_by_the_database(
    generation_db: Database, engine: Engine
) -> None:
    job_id = submitted(generation_db, engine)

    with pytest.raises(sa.exc.IntegrityError), generation_db.transaction() as session:
        session.execute(sa.update(Job).where(Job.id == job_id).values(open_generations=0))


# --- the first wall -----------------------------------------------------------------------------------------------


def test_reads_name_the_organization_even_where_the_database_would_show_every_row(
    generation_db: Database, engine: Engine
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))
    adopt(generation_db, engine, item)
    another = new_id("org")

    with generation_db.transaction() as session:
        own, foreign = ([read(session, org_id=org)["data"] for read in PAGES] for org in (item.org_id, another))
        image_id = own[1][0]["id"]

        assert [len(page) for page in own] == [1, 1]
        assert foreign == [[], []]
        with pytest.raises(NotFound):
            queries.job(session, org_id=another, job_id=job_id)
        with pytest.raises(NotFound):
            queries.job_generations(session, org_id=another, job_id=job_id)
        with pytest.raises(NotFound):
            queries.image(session, org_id=another, image_id=image_id)


PAGES = (queries.jobs, queries.images)
