"""Many who ask the same at once: one is sent, and the others take what it finds out, whatever becomes of it."""

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import cancelling, claims, coalescing, handlers, known_analyses, recording, sweeper, writes
from services.generation.adopting import Result
from services.generation.claims import Claimed
from services.generation.coalescing import Follower, Send, Take, Wait, decide
from services.generation.engine import Engine
from services.generation.known_analyses import Found, Maker
from services.generation.models import Operation
from services.generation.operations import Answered, Refused
from services.generation.submissions import Submission
from shared.database import Database
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, SeeingProvider
from tests.polling import until
from tests.service.generation.analysis_steps import (
    Photo,
    a_photo,
    an_analysis,
    asked_for,
    attempts,
    operations_of,
)
from tests.service.generation.steps import (
    at_work,
    begun,
    claim,
    ended,
    fail_one,
    job_of,
    lapse,
    names,
)
from tests.service.generation.worker_steps import Worker, execute


@pytest.fixture
def provider() -> SeeingProvider:
    return SeeingProvider()


@pytest.fixture
def photo(store: ObjectStore) -> Photo:
    return a_photo(store)


@pytest.fixture
def org_id() -> str:
    return new_id("org")


@contextmanager
def followed(db: Database, engine: Engine, *, by: int = 1) -> Iterator[None]:
    """Run followers in the background."""
    stop = threading.Event()
    threads = [threading.Thread(target=Follower(db, engine).run, args=(stop.is_set,)) for _ in range(by)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def of_same(photo: Photo, org_id: str, count: int, **more: Any) -> list[Submission]:
    return [an_analysis([photo], org_id=org_id, **more) for _ in range(count)]


def submitted(db: Database, engine: Engine, several: Sequence[Submission]) -> list[str]:
    for asked in several:
        asked_for(db, engine, asked)
    return [asked.job_id for asked in several]


def due(db: Database) -> list[Claimed]:
    return begun(db, claim(db))


def answered(db: Database, engine: Engine, item: Claimed, outcome: Any = None) -> None:
    with db.transaction() as session:
        seen: Any = outcome or Answered(result=A_LOOK, model="seeing-1", cost_microusd=7)
        db.publish(session, recording.success(session, engine, item, answer=seen, images=[]).events)


A_LOOK = {
    **dict.fromkeys(("summary", "category", "style", "lighting", "composition"), "x"),
    "colors": [],
    "materials": [],
    "details": [],
    "confidence": 0.5,
}


def test_twenty_at_once_of_the_same_picture_are_one_call(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider, photo: Photo, org_id: str
) -> None:
    several = of_same(photo, org_id, 20)

    with followed(generation_db, engine, by=2), at_work(generation_db, store, engine, slots=8):
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda asked: asked_for(generation_db, engine, asked), several))
        jobs = [ended(generation_db, asked.job_id, seconds=30) for asked in several]

    assert len(provider.requests) == attempts(generation_db) == 1
    assert {job["status"] for job in jobs} == {"succeeded"}
    assert len({job["generations"][0]["result"]["summary"] for job in jobs}) == 1
    assert sorted(job["charged"] for job in jobs) == [0] * 19 + [10]
    assert names(generation_db).count("JobFinished") == 20


def test_those_that_wait_are_not_due_and_take_the_result_when_it_is_there(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    first, *others = submitted(generation_db, engine, of_same(photo, org_id, 3))

    (sent,) = due(generation_db)
    waiting = [job_of(generation_db, job_id) for job_id in others]
    before = coalescing.settle_ready(generation_db, engine)
    answered(generation_db, engine, sent)
    after = coalescing.settle_ready(generation_db, engine)

    assert sent.job_id == first
    assert [(job["status"], job["waiting_reason"]) for job in waiting] == [("queued", "same_analysis")] * 2
    assert (before, after) == (0, 2)
    assert [job_of(generation_db, job_id)["status"] for job_id in others] == ["succeeded"] * 2
    assert due(generation_db) == []


def test_when_the_first_fails_one_more_is_sent_and_no_other(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    first, *others = submitted(generation_db, engine, of_same(photo, org_id, 4))
    (sent,) = due(generation_db)

    fail_one(generation_db, sent)
    coalescing.settle_ready(generation_db, engine)
    coalescing.settle_ready(generation_db, engine)
    again = due(generation_db)

    assert job_of(generation_db, first)["status"] == "failed"
    assert [item.job_id for item in again] == others[:1]
    answered(generation_db, engine, again[0])
    coalescing.settle_ready(generation_db, engine)
    assert [job_of(generation_db, job_id)["status"] for job_id in others] == ["succeeded"] * 3


def test_followers_at_once_send_one_more_and_no_other(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    submitted(generation_db, engine, of_same(photo, org_id, 12))
    (sent,) = due(generation_db)
    fail_one(generation_db, sent)

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: coalescing.settle_ready(generation_db, engine), range(6)))

    assert sum(done) == 1
    assert len(due(generation_db)) == 1


def test_two_that_decide_about_different_jobs_at_once_send_one(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, third = submitted(generation_db, engine, of_same(photo, org_id, 3))
    (sent,) = due(generation_db)
    fail_one(generation_db, sent)
    both_have_come_so_far, expect = threading.Barrier(2), known_analyses.expect

    def expect_together(*about: Any) -> set[str]:
        first = expect(*about)
        both_have_come_so_far.wait(5)
        return first

    monkeypatch.setattr(known_analyses, "expect", expect_together)
    with ThreadPoolExecutor(2) as pool:
        for deciding in [
            pool.submit(coalescing.settle_jobs, generation_db, engine, [job_id]) for job_id in (second, third)
        ]:
            deciding.result()

    assert len(due(generation_db)) == 1


def test_results_that_are_written_together_never_lock_out_who_looks_them_up(
    generation_db: Database, store: ObjectStore, engine: Engine, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [a_photo(store, f"photo {number}".encode()) for number in range(6)]
    submitted(generation_db, engine, [an_analysis(photos, org_id=org_id)])
    results = [Result(item=item, answer=Answered(result=A_LOOK, model="m"), images=[]) for item in due(generation_db)]
    with monkeypatch.context() as slow:
        slow.setattr(coalescing, "settle_jobs", lambda *_: None)
        (waiting,) = submitted(generation_db, engine, [an_analysis(photos, org_id=org_id)])
    keep, expect = known_analyses.keep, known_analyses.expect
    has_looked, kept_one, go_on = threading.Event(), threading.Event(), threading.Event()

    def expect_slowly(*about: Any) -> set[str]:
        first = expect(*about)
        has_looked.set()
        kept_one.wait(3)
        return first

    def keep_slowly(*about: Any) -> None:
        keep(*about)
        kept_one.set()
        go_on.wait(3)

    # The keys are hashes: whatever their order is, written backwards it is another.
    results.sort(key=lambda each: operation_key(generation_db, each.item.id), reverse=True)
    monkeypatch.setattr(known_analyses, "keep", keep_slowly)
    monkeypatch.setattr(known_analyses, "expect", expect_slowly)
    with ThreadPoolExecutor(2) as pool:
        looking = pool.submit(coalescing.settle_jobs, generation_db, engine, [waiting])
        has_looked.wait(3)
        writing = pool.submit(writes.record, engine, generation_db, results)
        until(lambda: waits_for_a_lock(generation_db), what="the look-up to wait for the writing")
        go_on.set()
        adopted = writing.result()
        looking.result()

    assert adopted == [True] * 6
    assert job_of(generation_db, waiting)["status"] == "succeeded"


def operation_key(db: Database, operation_id: str) -> str:
    with db.transaction() as session:
        return session.get_one(Operation, operation_id).analysis_key or ""


def waits_for_a_lock(db: Database) -> bool:
    with db.transaction() as session:
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        return bool(session.scalar(sa.text(blocked)))


def test_when_all_but_the_last_are_refused_the_last_still_has_its_turn(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider, photo: Photo, org_id: str
) -> None:
    provider.script = [Refused(code="invalid_input", detail="no")] * 3
    several = of_same(photo, org_id, 5)
    submitted(generation_db, engine, several)

    with followed(generation_db, engine), at_work(generation_db, store, engine):
        jobs = [ended(generation_db, asked.job_id, seconds=30) for asked in several]

    assert sorted(job["status"] for job in jobs) == ["failed"] * 3 + ["succeeded"] * 2
    assert len(provider.requests) == 4


@pytest.mark.parametrize("by_then", ["queued", "running"])
def test_when_the_first_is_cancelled_one_more_is_sent(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str, by_then: str
) -> None:
    first, second, third = submitted(generation_db, engine, of_same(photo, org_id, 3))
    if by_then == "running":
        due(generation_db)

    cancelling.cancel(generation_db, org_id=org_id, livemode=True, job_id=first)
    coalescing.settle_ready(generation_db, engine)

    assert [item.job_id for item in due(generation_db)] == [second]
    assert job_of(generation_db, third)["status"] == "queued"


def test_one_that_waits_can_be_cancelled_and_is_not_sent_then(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    _, second, third = submitted(generation_db, engine, of_same(photo, org_id, 3))
    (sent,) = due(generation_db)

    cancelling.cancel(generation_db, org_id=org_id, livemode=True, job_id=second)
    fail_one(generation_db, sent)
    coalescing.settle_ready(generation_db, engine)

    cancelled = job_of(generation_db, second)
    assert (cancelled["status"], cancelled["refunded"]) == ("cancelled", 10)
    assert [item.job_id for item in due(generation_db)] == [third]


def test_one_that_waits_ends_at_its_own_deadline(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    first, second = submitted(generation_db, engine, of_same(photo, org_id, 2))
    (sent,) = due(generation_db)
    execute(generation_db, "UPDATE jobs SET deadline_at = clock_timestamp() WHERE id = :id", id=second)

    sweeper.end_overdue_jobs(generation_db)
    answered(generation_db, engine, sent)
    coalescing.settle_ready(generation_db, engine)

    late = job_of(generation_db, second)
    assert (late["status"], late["charged"], late["refunded"]) == ("expired", 0, 10)
    assert job_of(generation_db, first)["status"] == "succeeded"


def test_a_worker_that_dies_with_the_first_leaves_the_others_waiting_for_whoever_takes_it_up(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider, photo: Photo, org_id: str
) -> None:
    several = submitted(generation_db, engine, of_same(photo, org_id, 3))
    due(generation_db)  # and nobody hears of this worker again
    lapse(generation_db)
    worker = Worker(generation_db, store, engine)

    worker.recover()
    waiting = coalescing.settle_ready(generation_db, engine)
    worker.send()
    taken = coalescing.settle_ready(generation_db, engine)

    assert (waiting, taken, len(provider.requests)) == (0, 2, 1)
    assert {job_of(generation_db, job_id)["status"] for job_id in several} == {"succeeded"}


def test_a_job_taken_in_by_a_process_that_died_before_it_looked_up_is_looked_up_by_a_worker(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(coalescing, "settle_jobs", lambda *_: None)
        submitted(generation_db, engine, of_same(photo, org_id, 2))
    assert due(generation_db) == []

    sent = coalescing.settle_ready(generation_db, engine)

    assert sent == 1
    assert len(due(generation_db)) == 1


def test_what_is_decided_and_not_committed_is_decided_again(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submitted(generation_db, engine, of_same(photo, org_id, 2))
    (sent,) = due(generation_db)
    answered(generation_db, engine, sent)

    with monkeypatch.context() as dying:
        dying.setattr(coalescing, "crash_point", killed)
        with pytest.raises(KeyboardInterrupt):
            coalescing.settle_ready(generation_db, engine)
    between = job_of(generation_db, second)["status"]
    coalescing.settle_ready(generation_db, engine)

    assert (between, job_of(generation_db, second)["status"]) == ("queued", "succeeded")
    assert names(generation_db).count("GenerationCompleted") == names(generation_db).count("JobFinished") == 2
    assert job_of(generation_db, first)["status"] == "succeeded"


def killed(_point: str) -> None:
    raise KeyboardInterrupt


def test_one_that_asks_while_another_organization_or_mode_is_at_it_does_not_wait(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    submitted(
        generation_db,
        engine,
        [
            an_analysis([photo], org_id=org_id),
            an_analysis([photo], org_id=new_id("org")),
            an_analysis([photo], org_id=org_id, livemode=False),
        ],
    )

    assert len(due(generation_db)) == 3


def test_a_fresh_one_does_not_wait_and_those_that_wait_take_what_it_is_told_first(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    _, second = submitted(generation_db, engine, of_same(photo, org_id, 2))
    fresh = an_analysis([photo], org_id=org_id, fresh=True)
    submitted(generation_db, engine, [fresh])
    at_it = {item.job_id: item for item in due(generation_db)}

    answered(generation_db, engine, at_it[fresh.job_id])
    coalescing.settle_ready(generation_db, engine)

    assert len(at_it) == 2
    assert job_of(generation_db, second)["status"] == "succeeded"


def test_a_fallbacks_answer_is_for_those_that_waited_and_known_as_the_fallbacks_alone(
    generation_db: Database, store: ObjectStore, photo: Photo, org_id: str
) -> None:
    first_choice, other = SeeingProvider(), SeeingProvider()
    first_choice.name, other.name, other.model = "gemini", "openai", "seeing-b"
    routes = {"vision.analyze": ["gemini", "openai"]}
    engine = Engine(providers={"gemini": first_choice, "openai": other}, routes=routes)
    first_choice.script = [Refused(code="auth_failed", detail="401")]
    waiting = of_same(photo, org_id, 2)
    submitted(generation_db, engine, waiting)

    with followed(generation_db, engine), at_work(generation_db, store, engine):
        jobs = [ended(generation_db, asked.job_id, seconds=30) for asked in waiting]
        (later,) = submitted(generation_db, engine, of_same(photo, org_id, 1))
        ended(generation_db, later)
    routed = replace(engine, routes={"vision.analyze": ["openai"]})
    hit = asked_for(generation_db, routed, an_analysis([photo], org_id=org_id))

    assert [job["status"] for job in jobs] == ["succeeded"] * 2
    assert [warning["code"] for job in jobs for warning in job["warnings"]] == ["fallback"] * 2
    assert (len(first_choice.requests), len(other.requests)) == (2, 1)
    of_waiting = [operations_of(generation_db, asked.job_id)[0] for asked in waiting]
    assert [(one.provider, one.model_used) for one in of_waiting] == [("openai", "seeing-b")] * 2
    assert hit["cache"]["hits"] == 1


def test_what_somebody_waits_for_at_the_screen_goes_before_the_rest_of_a_large_job(
    generation_db: Database, store: ObjectStore, engine: Engine, org_id: str
) -> None:
    photos = [a_photo(store, f"photo {number}".encode()) for number in range(20)]
    large = an_analysis(photos, org_id=org_id)
    submitted(generation_db, engine, [large])

    submitted(generation_db, engine, [an_analysis(photos[-1:], org_id=org_id)])

    with generation_db.transaction() as session:
        (first,) = claims.claim(session, worker="w", free=1, limits={"local": 100}, per_organization=20)
    assert (first.job_id, first.inputs["sources"]) == (large.job_id, [photos[-1].key])


def test_the_same_picture_twice_in_one_job_is_asked_once(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: SeeingProvider, org_id: str
) -> None:
    asked = an_analysis([a_photo(store), a_photo(store)], org_id=org_id)
    submitted(generation_db, engine, [asked])

    with followed(generation_db, engine), at_work(generation_db, store, engine):
        job = ended(generation_db, asked.job_id, seconds=30)

    assert (job["status"], job["charged"], job["refunded"], len(provider.requests)) == ("succeeded", 10, 10, 1)


def test_many_known_pictures_are_taken_by_the_workers_where_the_request_cannot_wait(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: SeeingProvider,
    org_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coalescing, "AT_ONCE", 5)
    photos = [a_photo(store, f"photo {number}".encode()) for number in range(8)]
    first = asked_for(generation_db, engine, an_analysis(photos, org_id=org_id))
    with followed(generation_db, engine), at_work(generation_db, store, engine):
        ended(generation_db, first["id"], seconds=30)

    second = asked_for(generation_db, engine, an_analysis(photos, org_id=org_id))
    with followed(generation_db, engine):
        job = ended(generation_db, second["id"], seconds=30)

    assert second["counts"]["succeeded"] == 5
    assert (job["status"], job["cache"]["hits"], len(provider.requests)) == ("succeeded", 8, 8)


def test_what_waits_for_credits_is_looked_up_once_it_is_paid_for(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    poor = HoldingCredits()
    poor.means = 0
    asked = an_analysis([photo], org_id=org_id, on_insufficient="pause")
    handlers.submit(generation_db, poor, engine, asked)
    submitted(generation_db, engine, of_same(photo, org_id, 1))
    (sent,) = due(generation_db)
    answered(generation_db, engine, sent)

    poor.means = None
    execute(generation_db, "UPDATE jobs SET reserve_after = clock_timestamp() WHERE reserve_after IS NOT NULL")
    sweeper.reserve_again(generation_db, poor)
    coalescing.settle_ready(generation_db, engine)

    job = job_of(generation_db, asked.job_id)
    assert (job["status"], job["charged"], job["refunded"]) == ("succeeded", 0, 10)


def test_a_queue_of_many_that_wait_for_the_same_is_looked_at_in_one_step(
    generation_db: Database, engine: Engine, photo: Photo, org_id: str
) -> None:
    submitted(generation_db, engine, of_same(photo, org_id, 2))
    execute(
        generation_db,
        "INSERT INTO operations (id, org_id, job_id, generation_id, position, name, status, lane, livemode, provider,"
        " model_requested, prompt, prompt_version, inputs, seed, makes_image, analysis_key, waits_since)"
        " SELECT 'op_many_' || n, org_id, job_id, generation_id, n + 1, name, status, lane, livemode, provider,"
        " model_requested, prompt, prompt_version, inputs, seed, makes_image, analysis_key, waits_since"
        " FROM operations, generate_series(1, 20000) AS n WHERE waits_since IS NOT NULL",
    )
    execute(generation_db, "ANALYZE operations")

    with generation_db.transaction() as session:
        plan = "\n".join(row[0] for row in session.execute(explained()))

    assert "Seq Scan on operations" not in plan
    assert buffers_of(plan) < 50


def explained() -> Any:
    return sa.text("EXPLAIN (ANALYZE, BUFFERS) " + known_analyses.READY.text).bindparams(most=50)


def buffers_of(plan: str) -> int:
    return int(re.search(r"shared hit=(\d+)", plan)[1])  # type: ignore[index]  # every plan says it


def test_an_answer_is_due_to_those_that_waited_when_it_came_and_to_nobody_later() -> None:
    now = datetime.now(UTC)
    found = Found(operation_id="op_a", provider="p", model="m", result={}, made_at=now)
    gone = Maker(operation_id="op_a", is_open=False, found=found)
    second = timedelta(seconds=1)

    assert decide(operation_id="op_b", waits_since=now - second, known=None, maker=gone) == Take(found=found)
    assert decide(operation_id="op_b", waits_since=now + second, known=None, maker=gone) == Send()
    assert decide(operation_id="op_b", waits_since=now + second, known=found, maker=None) == Take(found=found)


@pytest.mark.parametrize(
    ("maker", "decision"),
    [
        (None, Send()),
        (Maker(operation_id="op_a", is_open=True), Wait()),
        (Maker(operation_id="op_a", is_open=False), Send()),
        (Maker(operation_id="op_b", is_open=True), Send()),
    ],
)
def test_one_waits_only_for_another_that_is_at_it(maker: Maker | None, decision: Any) -> None:
    assert decide(operation_id="op_b", waits_since=datetime.now(UTC), known=None, maker=maker) == decision
