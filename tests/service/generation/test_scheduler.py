import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import claims, endings
from services.generation.engine import Engine
from services.generation.models import Generation, Image, Job
from services.generation.operations import Answered, MadeImage, Outcome, Refused
from services.generation.providers import Request
from shared.database import Database
from shared.off_hub import WorkFailed, off_hub
from shared.storage import ObjectStore
from tests.fakes import ScriptedProvider, picture_of
from tests.polling import until
from tests.service.generation.steps import SOURCE, at_work, ended, job_of, lapse, lapsed, submitted
from tests.service.generation.worker_steps import Worker, attempts_of


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


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


def test_a_result_of_another_model_than_was_asked_for_is_refunded_and_its_bill_counted(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    provider.script = [lambda request: replace(picture_of(request), model="scripted-1-lite")]
    job_id = submitted(generation_db, engine, variants=1)

    Worker(generation_db, store, engine).send()

    job = job_of(generation_db, job_id)
    assert (job["status"], job["charged"], job["refunded"]) == ("failed", 0, 10)
    assert job["generations"][0]["failure"]["reason"] == "model_changed"
    assert list(store.keys("images/")) == []
    (attempt,) = attempts_of(generation_db, job_id)
    assert (attempt.model_requested, attempt.model_used) == ("scripted-1", "scripted-1-lite")
    assert (attempt.error_code, attempt.cost_microusd) == ("model_changed", 5)


def test_a_version_of_the_model_that_was_asked_for_is_kept_under_its_own_name(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    provider.script = [lambda request: replace(picture_of(request), model="scripted-1-2026-09-08")]
    job_id = submitted(generation_db, engine, variants=1)

    Worker(generation_db, store, engine).send()

    assert job_of(generation_db, job_id)["charged"] == 10
    assert [attempt.model_used for attempt in attempts_of(generation_db, job_id)] == ["scripted-1-2026-09-08"]


@pytest.mark.parametrize(("failures", "status"), [(1, "succeeded"), (99, "failed")])
def test_pictures_that_we_are_too_busy_to_look_at_are_not_made_and_paid_for_again(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    status: str,
) -> None:
    left = [WorkFailed("Too many images are being processed; try again in a minute")] * failures

    def busy(function: Callable[..., Any], *args: Any) -> Any:
        if left:
            raise left.pop()
        return off_hub(function, *args)

    monkeypatch.setattr("services.generation.settling.off_hub", busy)
    monkeypatch.setattr("services.generation.settling.time.sleep", lambda _seconds: None)
    job_id = submitted(generation_db, engine, variants=1)

    Worker(generation_db, store, engine).send()

    assert job_of(generation_db, job_id)["status"] == status
    assert len(provider.requests) == 1
    assert [attempt.cost_microusd for attempt in attempts_of(generation_db, job_id)] == [5]


def test_a_result_that_is_too_large_to_be_stored_is_damaged_and_not_made_for_ever(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.generation.settling.MAX_RESULT_BYTES", 10)
    job_id = submitted(generation_db, engine, variants=1)

    Worker(generation_db, store, engine).send()

    assert [attempt.error_code for attempt in attempts_of(generation_db, job_id)] == ["result_corrupt"]
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


def test_the_next_is_sent_while_the_last_is_being_stored(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = store.put_together

    def put_once_both_are_sent(*objects: Any, **limits: Any) -> Any:
        until(lambda: len(provider.requests) == 2, what="the second request")
        return put(*objects, **limits)

    monkeypatch.setattr(store, "put_together", put_once_both_are_sent)
    monkeypatch.setattr(provider, "concurrency", 1)
    job_id = submitted(generation_db, engine, variants=2)

    with at_work(generation_db, store, engine):
        job = ended(generation_db, job_id)

    assert job["status"] == "succeeded"


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


def test_what_has_just_become_due_finds_a_slot_though_all_are_taken(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: ScriptedProvider
) -> None:
    leave = threading.Event()

    def held_up(request: Request) -> Outcome:
        leave.wait(20)
        return picture_of(request)

    provider.script = [held_up, held_up]
    large = submitted(generation_db, engine, variants=2)

    with at_work(generation_db, store, engine, slots=2):
        until(lambda: len(provider.requests) == 2, seconds=10, what="both slots to be taken")
        small = submitted(generation_db, engine, variants=1)
        job = ended(generation_db, small)
        leave.set()
        ended(generation_db, large)

    assert job["status"] == "succeeded"
