"""What a provider has taken: rows, which any worker asks for, through lost answers, lost workers and late results."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from services.generation import calls, circuits, claims, endings, recording, sweeper
from services.generation.engine import Engine
from services.generation.models import Image
from services.generation.operations import Lost, Refused, Spent, Submitted
from shared.database import Database
from shared.storage import ObjectStore
from tests.fakes import TakingProvider
from tests.polling import until
from tests.service.generation.steps import SOURCE, adopt, at_work, ended, job_of, submitted
from tests.service.generation.worker_steps import Worker, attempts_of, execute, operation_of


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


@pytest.fixture
def provider() -> TakingProvider:
    return TakingProvider()


@pytest.fixture
def engine(provider: TakingProvider) -> Engine:
    return Engine(providers={"replicate": provider}, routes={"image.stage": ["replicate"]})


@pytest.fixture
def worker(generation_db: Database, store: ObjectStore, engine: Engine) -> Worker:
    return Worker(generation_db, store, engine)


def lost_answers(provider: str) -> float:
    return REGISTRY.get_sample_value("darkroom_operations_unknown_total", {"provider": provider}) or 0


def end(db: Database, job_id: str) -> None:
    with db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        db.publish(session, endings.end_job(session, job, code="deadline_exceeded", now=endings.database_now(session)))


def test_what_a_provider_takes_holds_no_worker_and_is_brought_home_when_it_is_done(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: TakingProvider
) -> None:
    job_id = submitted(generation_db, engine, variants=8)

    with at_work(generation_db, store, engine, slots=2):
        until(lambda: len(provider.jobs) == 8)
        for external_id in list(provider.jobs):
            provider.finish(external_id)
        job = ended(generation_db, job_id)

    assert (job["status"], job["charged"]) == ("succeeded", 80)
    assert set(provider.billed.values()) == {1}
    assert [attempt.status for attempt in attempts_of(generation_db, job_id)] == ["succeeded"] * 8


def test_it_is_written_down_before_it_is_sent_and_stored_whole_when_it_is_taken(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    seen = []

    def look(request: Any) -> Submitted:
        seen.extend((one.status, one.request_digest) for one in attempts_of(generation_db, job_id))
        provider.jobs["a:b/c?d"] = request
        return Submitted(external_id="a:b/c?d")

    provider.script = [look]

    worker.send()

    operation = operation_of(generation_db, job_id)
    assert [status for status, _ in seen] == ["sent"]
    assert (operation.status, operation.external_id, operation.lease_until) == ("running", "a:b/c?d", None)
    assert operation.sent_at is not None
    assert operation.poll_at is not None


def test_another_worker_asks_for_what_one_that_died_has_sent(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish()

    Worker(generation_db, store, engine, name="another").ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert provider.billed.total() == 1


@pytest.mark.parametrize("first", ["the one that holds it", "the one that has lost it"])
def test_two_workers_that_ask_at_once_store_one_result(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: TakingProvider, worker: Worker, first: str
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish()
    (slow,) = worker.due()
    (fast,) = worker.due()

    for due in (fast, slow) if first == "the one that holds it" else (slow, fast):
        worker.poller.follow(due)

    assert job_of(generation_db, job_id)["charged"] == 10
    with generation_db.transaction() as session:
        keys = session.scalars(sa.select(Image.key)).all()
        thumbnails = session.scalars(sa.select(Image.thumbnail_key)).all()
    assert sorted(store.keys("images/")) == sorted([*keys, *thumbnails])
    assert [each.status for each in attempts_of(generation_db, job_id)] == ["succeeded"]


def test_a_lost_answer_is_looked_for_and_the_work_that_was_begun_adopted(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    provider.drops = 1
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    unknown = operation_of(generation_db, job_id).status
    provider.finish()

    worker.ask()
    worker.ask()

    assert unknown == "unknown"
    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert provider.billed.total() == 1


def test_what_never_arrived_is_sent_again(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    provider.ignores = 1
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()

    worker.ask()
    execute(generation_db, "UPDATE operations SET due_at = clock_timestamp()")
    worker.send()
    provider.finish()
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert [each.status for each in attempts_of(generation_db, job_id)] == ["failed", "succeeded"]
    assert provider.billed.total() == 1


@pytest.mark.parametrize("policy", ["lookup", "give_up"])
def test_every_answer_that_got_lost_is_counted_once(
    generation_db: Database, provider: TakingProvider, worker: Worker, engine: Engine, policy: Any
) -> None:
    provider.after_lost_answer = policy
    provider.drops = 1
    submitted(generation_db, engine, variants=1)
    before = lost_answers("replicate")

    worker.send()
    provider.finish()
    worker.ask()
    worker.ask()

    assert lost_answers("replicate") == before + 1


def test_what_an_earlier_attempt_left_there_is_not_taken_for_the_one_that_is_looked_for(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish(outcome=Refused(code="moderation_output", detail="withheld", ran=True, cost_microusd=5))
    worker.ask()
    provider.ignores = 1
    for _ in range(2):
        execute(generation_db, "UPDATE operations SET due_at = clock_timestamp()")
        worker.send()
        worker.ask()
    provider.finish("there_1")
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert operation_of(generation_db, job_id).cost_microusd == 10


def test_what_cannot_be_found_out_is_never_sent_again_and_given_back_in_the_end(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    provider.drops, provider.searchable = 1, False
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    worker.ask()
    still_held = job_of(generation_db, job_id)["reserved"]

    execute(generation_db, "UPDATE operations SET sent_at = sent_at - interval '10 min'")
    worker.ask()

    job = job_of(generation_db, job_id)
    assert still_held == 10
    assert (job["refunded"], job["generations"][0]["failure"]["reason"]) == (10, "outcome_unknown")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("dies", "sendings"), [("before it is sent", 1), ("after it is sent", 1), ("after it arrived", 1)]
)
def test_a_worker_that_dies_around_the_sending_leads_to_one_piece_of_work(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, dies: str, sendings: int
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = worker.claim()
    if dies != "before it is sent":
        with generation_db.transaction() as session:
            assert calls.send(session, [(item, "d")]) == {item.claim: 1}
    if dies == "after it arrived":
        asked = worker.scheduler.request(item)
        assert not isinstance(asked, Refused)
        provider.submit(asked)

    worker.recover()
    worker.ask()
    execute(generation_db, "UPDATE operations SET due_at = clock_timestamp()")
    worker.send()
    provider.finish()
    worker.ask()
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert provider.billed.total() == sendings
    assert len(provider.requests) == 1


def test_a_worker_that_was_stopped_before_sending_does_not_send_what_another_has_taken_over(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    submitted(generation_db, engine, variants=1)
    (stopped,) = worker.claim()
    worker.recover()
    worker.send()

    worker.scheduler.carry(stopped)

    assert provider.billed.total() == 1


def test_what_was_taken_for_a_worker_that_has_lost_it_is_cancelled_there(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)

    def stopped_meanwhile(request: Any) -> Submitted:
        provider.jobs["orphan"] = request
        execute(generation_db, "UPDATE operations SET attempt = attempt + 1, fence = fence + 1")
        return Submitted(external_id="orphan")

    provider.script = [stopped_meanwhile]

    worker.send()

    assert provider.cancelled == ["orphan"]
    assert operation_of(generation_db, job_id).external_id is None


def test_what_was_looked_for_and_found_is_not_cancelled_by_the_one_that_hears_of_it_last(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    another = Worker(generation_db, store, engine, name="another")

    def found_meanwhile(request: Any) -> Submitted:
        provider.jobs["there_0"] = request
        another.recover()
        another.ask()
        return Submitted(external_id="there_0")

    provider.script = [found_meanwhile]

    worker.send()
    provider.finish()
    another.ask()

    assert provider.cancelled == []
    assert job_of(generation_db, job_id)["charged"] == 10


def test_a_worker_that_dies_with_the_result_in_hand_costs_nothing_but_another_question(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish()
    (due,) = worker.due()
    with generation_db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE operations SET status = 'storing', poll_at = NULL, lease_until = clock_timestamp()"
                " WHERE id = :id"
            ),
            {"id": due.item.id},
        )

    worker.recover()
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert len(provider.requests) == 1


def test_a_job_that_ends_is_cancelled_at_the_provider_and_what_it_cost_is_logged(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    end(generation_db, job_id)

    worker.ask()
    provider.finish()
    worker.ask()
    worker.ask()

    operation = operation_of(generation_db, job_id)
    assert provider.cancelled == ["there_0"]
    assert (operation.status, operation.cost_microusd, operation.poll_at) == ("cancelled", 5, None)
    assert [(each.status, each.cost_microusd) for each in attempts_of(generation_db, job_id)] == [("late", 5)]
    assert list(store.keys("images/")) == []
    assert job_of(generation_db, job_id)["refunded"] == 10


def test_a_job_that_ends_while_its_request_is_on_its_way_is_cancelled_there_as_well(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)

    def ends_meanwhile(request: Any) -> Submitted:
        end(generation_db, job_id)
        provider.jobs["there_0"] = request
        return Submitted(external_id="there_0")

    provider.script = [ends_meanwhile]
    worker.send()

    worker.ask()

    assert provider.cancelled == ["there_0"]


def test_one_that_was_lost_is_found_and_cancelled_though_its_job_has_ended(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    provider.drops = 1
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    end(generation_db, job_id)

    worker.ask()
    worker.ask()
    provider.finish(outcome=Refused(code="cancelled_running", detail="", ran=True, cost_microusd=30))
    worker.ask()

    assert provider.cancelled == ["there_0"]
    assert [(each.status, each.cost_microusd) for each in attempts_of(generation_db, job_id)] == [("late", 30)]


def test_an_answer_lost_while_its_job_ended_is_looked_for_and_cancelled(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)

    def ends_meanwhile(request: Any) -> Lost:
        end(generation_db, job_id)
        provider.jobs["there_0"] = request
        return Lost(detail="the answer broke off")

    provider.script = [ends_meanwhile]
    worker.send()

    worker.ask()
    worker.ask()

    assert provider.cancelled == ["there_0"]


def test_what_never_ends_at_the_provider_is_let_go_of_and_its_attempt_ended(
    generation_db: Database, engine: Engine, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    end(generation_db, job_id)
    execute(generation_db, "UPDATE operations SET sent_at = sent_at - interval '1 h'")

    worker.ask()

    assert operation_of(generation_db, job_id).poll_at is None
    assert [each.status for each in attempts_of(generation_db, job_id)] == ["late"]


def test_a_provider_that_hangs_does_not_keep_the_others_from_being_asked(
    generation_db: Database, store: ObjectStore, provider: TakingProvider
) -> None:
    over = threading.Event()
    provider.while_polled = lambda: over.wait(20)
    second = TakingProvider("fal")
    both = Engine(providers={"replicate": provider, "fal": second}, routes={"image.stage": ["replicate"]})
    many = [submitted(generation_db, both, variants=8) for _ in range(4)]
    other = submitted(generation_db, replace(both, routes={"image.stage": ["fal"]}), variants=1)

    with at_work(generation_db, store, both, slots=4):
        try:
            until(lambda: len(provider.polled) >= 12 and second.jobs, what="many hanging questions")
            second.finish()
            job = ended(generation_db, other)
        finally:
            over.set()

    assert job["status"] == "succeeded"
    assert not any(job_of(generation_db, job_id)["finished_at"] for job_id in many)


def test_one_that_is_at_it_for_longer_than_it_may_is_given_up_and_cancelled(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    execute(generation_db, "UPDATE operations SET sent_at = sent_at - interval '6 min'")

    worker.ask()
    worker.ask()

    job = job_of(generation_db, job_id)
    assert job["generations"][0]["failure"]["reason"] == "provider_timeout"
    assert provider.cancelled == ["there_0"]
    assert len(provider.requests) == 1
    with generation_db.transaction() as session:
        circuit = circuits.known(session, ["replicate"])["replicate", "scripted-1"]
    assert (circuit.failures, circuit.failure_code) == (1, "provider_timeout")


def test_a_second_bill_of_a_worker_that_was_cut_off_is_counted(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (cut_off,) = worker.claim()
    with generation_db.transaction() as session:
        calls.send(session, [(cut_off, "d")])
    worker.recover()
    worker.ask()
    execute(generation_db, "UPDATE operations SET due_at = clock_timestamp()")
    worker.send()
    provider.finish()

    with generation_db.transaction() as session:
        recording.note_late(session, cut_off, Spent(model="scripted-1", cost_microusd=5))
    worker.ask()

    assert job_of(generation_db, job_id)["charged"] == 10
    costs = [(each.status, each.cost_microusd) for each in attempts_of(generation_db, job_id)]
    assert costs == [("late", 5), ("succeeded", 5)]


def test_what_a_provider_forgets_is_not_made_again(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish(outcome=Lost(detail="404"))

    worker.ask()

    assert job_of(generation_db, job_id)["generations"][0]["failure"]["reason"] == "outcome_unknown"
    assert len(provider.requests) == 1


def test_a_provider_is_left_alone_for_as_long_as_it_asks_but_not_for_a_year(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    provider.wishes = 31_536_000
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()

    worker.ask()

    with generation_db.transaction() as session:
        now = endings.database_now(session)
    wait = operation_of(generation_db, job_id).poll_at - now  # type: ignore[operator]
    assert 50 < wait.total_seconds() <= 60


def test_work_that_was_billed_in_vain_is_counted(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    first_seed = provider.requests[0].seed
    provider.finish(outcome=Refused(code="moderation_output", detail="NSFW", ran=True, cost_microusd=40))
    worker.ask()
    execute(generation_db, "UPDATE operations SET due_at = clock_timestamp()")
    worker.send()
    provider.finish("there_1")
    worker.ask()

    operation = operation_of(generation_db, job_id)
    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert (operation.cost_microusd, operation.seed) == (45, provider.requests[1].seed)
    assert provider.requests[1].seed != first_seed
    assert [each.cost_microusd for each in attempts_of(generation_db, job_id)] == [40, 5]


def test_a_worker_past_its_lease_writes_neither_row_nor_object(
    generation_db: Database, store: ObjectStore, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish()
    (zombie,) = worker.due()
    worker.ask()
    objects = list(store.keys("images/"))

    worker.poller.follow(zombie)

    assert not adopt(generation_db, engine, zombie.item)
    assert list(store.keys("images/")) == objects
    assert job_of(generation_db, job_id)["charged"] == 10


def test_another_provider_of_the_route_does_what_the_first_certainly_did_not(
    generation_db: Database, store: ObjectStore, provider: TakingProvider
) -> None:
    second = TakingProvider("fal")
    both = Engine(providers={"replicate": provider, "fal": second}, routes={"image.stage": ["replicate", "fal"]})
    provider.script = [Refused(code="auth_failed", detail="401")]
    job_id = submitted(generation_db, both, variants=1)
    worker = Worker(generation_db, store, both)

    worker.send()
    worker.send()
    second.finish()
    worker.ask()

    assert job_of(generation_db, job_id)["status"] == "succeeded"
    assert [(each.provider, each.status) for each in attempts_of(generation_db, job_id)] == [
        ("replicate", "failed"),
        ("fal", "succeeded"),
    ]


@pytest.mark.parametrize("ran", [True, False])
def test_nobody_else_does_what_may_have_been_done(
    generation_db: Database, store: ObjectStore, provider: TakingProvider, *, ran: bool
) -> None:
    second = TakingProvider("fal")
    route = ["replicate", "fal"] if ran else ["replicate"]
    both = Engine(providers={"replicate": provider, "fal": second}, routes={"image.stage": route})
    provider.script = [Refused(code="auth_failed", detail="401", ran=ran)]
    job_id = submitted(generation_db, both, variants=1)
    worker = Worker(generation_db, store, both)

    worker.send()
    worker.send()

    assert second.requests == []
    assert job_of(generation_db, job_id)["generations"][0]["failure"]["reason"] == "auth_failed"


def test_the_log_is_kept_for_so_long_and_not_longer(
    generation_db: Database,
    engine: Engine,
    provider: TakingProvider,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeper, "_MOST_FORGOTTEN", 2)
    job_id = submitted(generation_db, engine, variants=7)
    worker.send()
    for external_id in list(provider.jobs)[1:]:
        provider.finish(external_id)
    worker.ask()
    young, *old = (each for each in attempts_of(generation_db, job_id) if each.status == "succeeded")
    execute(generation_db, "UPDATE attempts SET sent_at = sent_at - interval '10 days'")
    execute(
        generation_db,
        "UPDATE attempts SET sent_at = sent_at + interval '1 hour' WHERE operation_id = :id",
        id=young.operation_id,
    )

    gone = sweeper.forget_old_attempts(generation_db, kept=timedelta(days=10))

    left = [(each.status, each.operation_id) for each in attempts_of(generation_db, job_id)]
    assert gone == len(old) == 5
    assert sorted(status for status, _ in left) == ["submitted", "succeeded"]
    assert ("succeeded", young.operation_id) in left


def test_a_heartbeat_holds_nothing_that_was_taken_meanwhile(
    generation_db: Database, engine: Engine, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = worker.claim()
    worker.scheduler.carry(item)

    with generation_db.transaction() as session:
        kept = claims.heartbeat(session, [item])

    operation = operation_of(generation_db, job_id)
    assert kept == {item.id}
    assert (operation.status, operation.lease_until) == ("running", None)
    assert operation.external_id
