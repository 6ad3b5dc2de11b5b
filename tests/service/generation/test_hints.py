"""What a verified webhook leads to: asking now, and the work of a lost answer known again, once, in any order."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.generation import asking, calls, endings, handlers, sweeper
from services.generation.asking import Due
from services.generation.engine import Engine
from services.generation.models import Attempt, Operation
from services.generation.operations import Lost, Refused, Submitted
from services.generation.providers import Request
from shared.database import Database
from shared.events import ProviderCallbackReceived, correlated
from shared.ids import new_id
from shared.storage import ObjectStore
from tests.fakes import TakingProvider, picture_of
from tests.service.generation.steps import SOURCE, adopt, job_of, submitted
from tests.service.generation.worker_steps import Worker, attempts_of, execute, operation_of

THERE = "there_0"


@pytest.fixture(autouse=True)
def uploaded(store: ObjectStore) -> None:
    store.put(key=SOURCE, chunks=b"a photo", content_type="image/jpeg")


@pytest.fixture
def provider() -> TakingProvider:
    """One that cannot be searched, as FAL: a lost answer is given up, unless it calls back."""
    fal = TakingProvider("fal")
    fal.after_lost_answer = "give_up"
    return fal


@pytest.fixture
def engine(provider: TakingProvider) -> Engine:
    return Engine(providers={"fal": provider}, routes={"image.stage": ["fal"]})


@pytest.fixture
def worker(generation_db: Database, store: ObjectStore, engine: Engine) -> Worker:
    return Worker(generation_db, store, engine)


@pytest.fixture
def called(generation_db: Database, engine: Engine) -> Callable[..., None]:
    """Hand webhooks about operations to the engine, together."""

    def called(*operation_ids: str, work_id: str | None = None, provider: str = "fal") -> None:
        events = [a_call(each, work_id=work_id, provider=provider) for each in operation_ids]
        with generation_db.transaction() as session:
            generation_db.publish(session, handlers.ask_providers_now(session, events, engine=engine))

    return called


def a_call(operation_id: str, *, work_id: str | None, provider: str) -> ProviderCallbackReceived:
    return ProviderCallbackReceived(
        meta=correlated("cor_1"),
        provider=provider,
        operation_id=operation_id,
        delivery_id=new_id("dlv"),
        work_id=work_id,
    )


def loses_its_answer(provider: TakingProvider) -> None:
    """Have the provider take the next and its answer be lost; it was told where to call back."""

    def taken(request: Request) -> Lost:
        provider.jobs[f"there_{len(provider.jobs)}"] = request
        return Lost(detail="the answer broke off", may_call_back=True)

    provider.script.append(taken)


def money(db: Database, job_id: str) -> tuple[int, int, int]:
    job = job_of(db, job_id)
    return job["charged"], job["refunded"], job["reserved"]


HINTS: dict[str, Callable[[Operation], list[str]]] = {
    "right": lambda operation: [operation.id],
    "twice": lambda operation: [operation.id, operation.id],
    "beside an unknown one": lambda operation: ["op_nobody", operation.id],
}


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_has_an_operation_asked_for_now(
    generation_db: Database, engine: Engine, worker: Worker, called: Callable[..., None], hint: str
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    execute(generation_db, "UPDATE operations SET poll_at = clock_timestamp() + interval '1 h'")

    called(*HINTS[hint](operation_of(generation_db, job_id)))

    assert [each.item.job_id for each in due_now(generation_db)] == [job_id]


@pytest.mark.parametrize("work_id", [None, THERE])
def test_a_hint_before_it_is_sent_or_after_its_end_is_harmless(
    generation_db: Database,
    engine: Engine,
    provider: TakingProvider,
    worker: Worker,
    called: Callable[..., None],
    work_id: str | None,
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    operation_id = operation_of(generation_db, job_id).id
    called(operation_id, work_id=work_id)
    worker.send()
    provider.finish(outcome=picture_of(provider.requests[0]))
    worker.ask()

    called(operation_id, work_id=work_id)

    assert due_now(generation_db) == []
    assert job_of(generation_db, job_id)["charged"] == 10
    assert len(provider.requests) == 1


def test_a_provider_whose_webhooks_arrive_is_asked_less_often(
    generation_db: Database, engine: Engine, worker: Worker, called: Callable[..., None]
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    (before,) = worker.due()
    worker.poller.follow(before)
    seconds_before = seconds_until_asked_again(generation_db, job_id)
    called(before.item.id)

    (after,) = worker.due()
    worker.poller.follow(after)

    assert (before.calls_back, after.calls_back) == (False, True)
    assert seconds_before < 2
    assert seconds_until_asked_again(generation_db, job_id) > 25


@pytest.mark.parametrize("times", [1, 2])
def test_an_operation_whose_answer_was_lost_is_known_again_by_its_webhook(
    generation_db: Database,
    engine: Engine,
    provider: TakingProvider,
    worker: Worker,
    called: Callable[..., None],
    times: int,
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    lost = operation_of(generation_db, job_id)
    provider.finish()

    for _ in range(times):
        called(lost.id, work_id=THERE)
    worker.ask()
    called(lost.id, work_id=THERE)

    assert (lost.status, lost.external_id) == ("unknown", None)
    assert money(generation_db, job_id) == (10, 0, 0)
    (attempt,) = attempts_of(generation_db, job_id)
    assert (attempt.status, attempt.external_id, attempt.cost_microusd) == ("succeeded", THERE, 5)
    assert provider.billed.total() == 1


def test_a_lost_answer_waits_for_the_webhook_until_the_providers_time_is_up(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)

    worker.send()

    assert seconds_until_asked_again(generation_db, job_id) > provider.time_limit_seconds - 10
    assert money(generation_db, job_id) == (0, 0, 10)
    worker.ask()
    assert money(generation_db, job_id) == (0, 10, 0)
    assert job_of(generation_db, job_id)["generations"][0]["failure"]["reason"] == "outcome_unknown"


def test_a_lost_answer_of_one_that_was_not_told_where_to_call_is_not_waited_for(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    provider.drops = 1
    job_id = submitted(generation_db, engine, variants=1)

    worker.send()

    assert money(generation_db, job_id) == (0, 10, 0)


def test_a_webhook_after_the_refund_makes_the_bill_known_and_brings_no_image(
    generation_db: Database,
    store: ObjectStore,
    engine: Engine,
    provider: TakingProvider,
    worker: Worker,
    called: Callable[..., None],
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    worker.ask()
    ended = job_of(generation_db, job_id)
    provider.finish()

    called(operation_of(generation_db, job_id).id, work_id=THERE)
    worker.ask()

    assert job_of(generation_db, job_id) == ended
    assert list(store.keys("images/")) == []
    (attempt,) = attempts_of(generation_db, job_id)
    assert (attempt.status, attempt.external_id, attempt.cost_microusd) == ("late", THERE, 5)
    operation = operation_of(generation_db, job_id)
    assert (operation.status, operation.poll_at, operation.cost_microusd) == ("failed", None, 5)


@pytest.mark.parametrize("answer", ["the same id", "lost", "refused", "at once", "another id"])
def test_a_webhook_that_overtakes_the_answer_counts_and_the_answer_changes_nothing(
    generation_db: Database,
    engine: Engine,
    provider: TakingProvider,
    worker: Worker,
    called: Callable[..., None],
    answer: str,
) -> None:
    answers = {
        "the same id": Submitted(external_id=THERE),
        "lost": Lost(detail="broken", may_call_back=True),
        "refused": Refused(code="provider_error", detail="HTTP 500"),
        "another id": Submitted(external_id="there_9"),
    }

    def overtaken(request: Request) -> object:
        provider.jobs[THERE] = request
        called(request.operation_id, work_id=THERE)
        return answers.get(answer) or picture_of(request)

    provider.script.append(overtaken)  # type: ignore[arg-type]  # each of them is a Submission
    job_id = submitted(generation_db, engine, variants=1)

    worker.send()

    operation = operation_of(generation_db, job_id)
    assert (operation.status, operation.external_id) == ("running", THERE)
    assert money(generation_db, job_id) == (0, 0, 10)
    assert provider.cancelled == (["there_9"] if answer == "another id" else [])
    provider.finish(THERE)
    worker.ask()
    assert money(generation_db, job_id) == (10, 0, 0)
    assert [each.status for each in attempts_of(generation_db, job_id)] == ["succeeded"]
    assert len(provider.requests) == 1


def test_what_a_worker_that_died_had_sent_is_known_again_before_its_lease_has_run_out(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, called: Callable[..., None]
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = worker.claim()
    asked = worker.scheduler.request(item)
    assert isinstance(asked, Request)
    with generation_db.transaction() as session:
        calls.send(session, [(item, "d")])
    provider.submit(asked)
    provider.finish()

    called(item.id, work_id=THERE)
    worker.recover()
    worker.ask()

    assert money(generation_db, job_id) == (10, 0, 0)
    assert len(provider.requests) == 1
    assert not adopt(generation_db, engine, item), "the first claim is lost for good"


def test_a_hint_and_the_giving_up_of_the_same_operation_end_in_one_of_both(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, called: Callable[..., None]
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    (about_to_give_up,) = worker.due()
    called(about_to_give_up.item.id, work_id=THERE)

    worker.poller.follow(about_to_give_up)

    assert money(generation_db, job_id) == (0, 0, 10)
    provider.finish()
    worker.ask()
    assert money(generation_db, job_id) == (10, 0, 0)
    assert [each.status for each in attempts_of(generation_db, job_id)] == ["succeeded"]


def test_a_late_webhook_of_an_earlier_attempt_is_not_taken_for_the_present_one(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, called: Callable[..., None]
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish(THERE, Refused(code="provider_error", detail="failed", ran=True))
    worker.ask()
    execute(generation_db, "UPDATE operations SET due_at = clock_timestamp()")
    execute(generation_db, "DELETE FROM circuits")
    loses_its_answer(provider)
    worker.send()
    lost = operation_of(generation_db, job_id)

    called(lost.id, work_id=THERE)

    assert (lost.status, lost.attempt) == ("unknown", 2)
    assert operation_of(generation_db, job_id).status == "unknown"
    called(lost.id, work_id="there_1")
    provider.finish("there_1")
    worker.ask()
    assert money(generation_db, job_id) == (10, 0, 0)
    assert [each.external_id for each in attempts_of(generation_db, job_id)] == [THERE, "there_1"]


@pytest.mark.parametrize("wrong", ["another provider", "no id", "nobody's"])
def test_a_webhook_that_names_nothing_of_this_provider_adopts_nothing(
    generation_db: Database,
    engine: Engine,
    provider: TakingProvider,
    worker: Worker,
    called: Callable[..., None],
    wrong: str,
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    lost = operation_of(generation_db, job_id)

    if wrong == "another provider":
        called(lost.id, work_id=THERE, provider="replicate")
    else:
        called(lost.id, work_id=None if wrong == "no id" else "../status")

    found = operation_of(generation_db, job_id)
    assert (found.status, found.external_id, found.fence, found.poll_at) == ("unknown", None, lost.fence, lost.poll_at)


def test_work_that_is_called_back_of_when_nobody_waits_for_it_any_more_is_stopped_there(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, called: Callable[..., None]
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    with generation_db.transaction() as session:
        job = endings.lock_jobs(session, [job_id])[job_id]
        endings.end_job(session, job, code="deadline_exceeded", now=endings.database_now(session))
    ended = job_of(generation_db, job_id)

    called(operation_of(generation_db, job_id).id, work_id=THERE)
    worker.ask()

    assert provider.cancelled == [THERE]
    assert job_of(generation_db, job_id) == ended


def test_one_that_can_be_searched_is_known_again_without_a_search(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, called: Callable[..., None]
) -> None:
    provider.after_lost_answer = "lookup"
    provider.searchable = False
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish()

    called(operation_of(generation_db, job_id).id, work_id=THERE)
    worker.ask()

    assert money(generation_db, job_id) == (10, 0, 0)


def test_attempts_that_a_webhook_made_known_are_closed_in_the_log(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker, called: Callable[..., None]
) -> None:
    loses_its_answer(provider)
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    worker.ask()
    execute(generation_db, "UPDATE operations SET sent_at = sent_at - interval '1 h'")

    called(operation_of(generation_db, job_id).id, work_id=THERE)
    worker.ask()
    sweeper.forget_old_attempts(generation_db, kept=timedelta(days=30))

    with generation_db.transaction() as session:
        open_ones = session.scalar(sa.select(sa.func.count()).where(Attempt.status.in_(("submitted", "unknown"))))
    assert open_ones == 0
    assert operation_of(generation_db, job_id).poll_at is None


def due_now(db: Database) -> list[Due]:
    with db.transaction() as session:
        return asking.due(session, worker="w", most=10)


def seconds_until_asked_again(db: Database, job_id: str) -> float:
    with db.transaction() as session:
        left = sa.text("SELECT extract(epoch FROM poll_at - clock_timestamp()) FROM operations WHERE job_id = :job_id")
        return float(session.execute(left, {"job_id": job_id}).scalar_one())
