"""Cancelling, retrying, stalling: how a job ends by somebody's will, what that costs, and what can be read of it."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import cancelling, handlers, histories, queries, recording, retrying, sweeper
from services.generation.engine import Engine
from services.generation.models import Attempt, Job
from services.generation.operations import Refused
from shared.database import Database
from shared.events import GenerationFailed, JobFinished, JobStalled, ProviderCallbackReceived, correlated
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, NotFound
from shared.storage import ObjectStore
from tests.fakes import HoldingCredits, TakingProvider
from tests.service.generation.steps import SOURCE, adopt, begun, claim, fail_one, job_of, names, published, submitted
from tests.service.generation.worker_steps import Worker, attempts_of, execute


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


def owner_of(db: Database, job_id: str) -> dict[str, Any]:
    with db.transaction() as session:
        job = session.get_one(Job, job_id)
        return {"org_id": job.org_id, "livemode": job.livemode}


def cancelled(db: Database, job_id: str) -> dict[str, Any]:
    return cancelling.cancel(db, **owner_of(db, job_id), job_id=job_id)


def reasons(db: Database) -> list[str]:
    return [event.reason for event in published(db) if isinstance(event, GenerationFailed)]


def test_a_job_that_was_not_begun_is_cancelled_at_once_and_given_back(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine)

    job = cancelled(generation_db, job_id)
    worker.send()

    assert (job["status"], job["refunded"], job["charged"]) == ("cancelled", 20, 0)
    assert reasons(generation_db) == ["cancelled_before_start"] * 2
    assert provider.requests == []


def test_what_is_being_made_is_cancelled_there_and_not_charged_though_it_costs_us(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()

    job = cancelled(generation_db, job_id)
    worker.ask()
    provider.finish(outcome=Refused(code="cancelled_running", detail="", ran=True, cost_microusd=30))
    worker.ask()

    assert (job["status"], job["refunded"]) == ("cancelled", 10)
    assert reasons(generation_db) == ["cancelled_running"]
    assert provider.cancelled == ["there_0"]
    assert [each.cost_microusd for each in attempts_of(generation_db, job_id)] == [30]


def test_a_result_that_is_being_stored_is_kept_and_paid_for(
    generation_db: Database, engine: Engine, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine)
    item, _ = worker.claim()
    with generation_db.transaction() as session:
        assert recording.storing(session, [item])

    between = cancelled(generation_db, job_id)
    adopted = adopt(generation_db, engine, item)

    job = job_of(generation_db, job_id)
    assert adopted
    assert (between["status"], between["finished_at"]) == ("cancelling", None)
    assert (job["status"], job["charged"], job["refunded"]) == ("partially_succeeded", 10, 10)


def test_a_result_that_could_not_be_stored_ends_a_cancelled_job_without_another_try(
    generation_db: Database, engine: Engine, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    (item,) = worker.claim()
    with generation_db.transaction() as session:
        recording.storing(session, [item])
    cancelled(generation_db, job_id)

    with generation_db.transaction() as session:
        again = recording.Repeat(after_seconds=1, code="result_corrupt", detail="")
        generation_db.publish(session, recording.repeat(session, item, decision=again))

    assert job_of(generation_db, job_id)["status"] == "cancelled"
    assert reasons(generation_db) == ["cancelled_running"]


def test_cancelling_twice_or_after_the_end_changes_nothing(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    cancelled(generation_db, job_id)
    told = names(generation_db)

    again = cancelled(generation_db, job_id)

    assert again["status"] == "cancelled"
    assert names(generation_db) == told
    assert told.count("JobFinished") == 1


@pytest.mark.parametrize("status", ["awaiting_credit", "paused"])
def test_a_job_that_waits_for_credits_can_be_cancelled(generation_db: Database, engine: Engine, status: str) -> None:
    job_id = submitted(generation_db, engine)
    if status == "awaiting_credit":
        execute(generation_db, "UPDATE jobs SET status = 'awaiting_credit'")
    else:
        execute(
            generation_db,
            "UPDATE jobs SET status = 'paused', paused_at = now(), waiting_reason = 'insufficient_credits'",
        )

    assert cancelled(generation_db, job_id)["status"] == "cancelled"


def test_nobody_cancels_a_job_of_another_organization(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)

    with pytest.raises(NotFound):
        cancelling.cancel(generation_db, org_id=new_id("org"), livemode=True, job_id=job_id)

    assert job_of(generation_db, job_id)["status"] == "queued"


def retried(db: Database, engine: Engine, job_id: str, credits_service: HoldingCredits, **more: Any) -> dict[str, Any]:
    asked = {"new_job_id": new_id("job"), "user_id": None, **more}
    answer = retrying.retry(db, credits_service, engine, **owner_of(db, job_id), job_id=job_id, **asked)
    job: dict[str, Any] = answer["job"]
    return job


def a_job_with_one_failure(db: Database, engine: Engine, worker: Worker) -> str:
    job_id = submitted(db, engine)
    good, bad = worker.claim()
    adopt(db, engine, good)
    fail_one(db, bad)
    return job_id


def test_a_retry_makes_the_failed_generations_again_as_a_job_that_pays_its_own_way(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)

    job = retried(generation_db, engine, job_id, credits_service)

    assert (job["retry_of"], job["retry_count"], job["counts"]["total"], job["reserved"]) == (job_id, 1, 1, 10)
    assert job_of(generation_db, job_id)["status"] == "partially_succeeded"


def test_a_retry_of_a_retry_still_knows_which_generation_it_is_about(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    first = retried(generation_db, engine, a_job_with_one_failure(generation_db, engine, worker), credits_service)
    (item,) = begun(generation_db, worker.claim())
    fail_one(generation_db, item)

    again = retried(generation_db, engine, first["id"], credits_service, settings={"style": "scandinavian"})

    assert (again["retry_of"], again["retry_count"], again["counts"]["total"]) == (first["id"], 2, 1)
    assert again["generations"][0]["style"] == "scandinavian"


def test_a_retry_is_refused_where_there_is_nothing_to_make_again(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    with pytest.raises(Conflict):
        retried(generation_db, engine, job_id, credits_service)
    (item,) = worker.claim()
    adopt(generation_db, engine, item)

    with pytest.raises(Conflict):
        retried(generation_db, engine, job_id, credits_service)
    with pytest.raises(BadRequest):
        retried(generation_db, engine, job_id, credits_service, generation_ids=[item.generation_id])
    with pytest.raises(NotFound):
        retried(generation_db, engine, job_id, credits_service, generation_ids=["gen_nobody"])


def test_a_retry_cannot_change_how_many_generations_there_are(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)

    with pytest.raises(BadRequest):
        retried(generation_db, engine, job_id, credits_service, settings={"variants": 3})


def test_a_retry_can_have_terms_of_its_own(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)

    retried(generation_db, engine, job_id, credits_service, on_insufficient="pause", deadline_seconds=120)

    (asked,) = credits_service.calls
    with generation_db.transaction() as session:
        again = session.scalars(sa.select(Job).where(Job.retry_of == job_id)).one()
    assert asked["partial"]
    assert (again.on_insufficient, again.deadline_seconds) == ("pause", 120)


def test_a_retry_without_terms_has_those_of_the_job_it_repeats(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)
    execute(generation_db, "UPDATE jobs SET on_insufficient = 'partial', deadline_seconds = 3600")

    retried(generation_db, engine, job_id, credits_service)

    with generation_db.transaction() as session:
        again = session.scalars(sa.select(Job).where(Job.retry_of == job_id)).one()
    assert (again.on_insufficient, again.deadline_seconds) == ("partial", 3600)


def test_a_retry_that_is_only_tried_is_no_job(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)
    asked = {"job_id": job_id, "new_job_id": new_id("job"), "user_id": None, "dry_run": True}

    answer = retrying.retry(generation_db, credits_service, engine, **owner_of(generation_db, job_id), **asked)

    assert (answer["dry_run"], answer["amount"], answer["images"]) == (True, 10, 1)
    with generation_db.transaction() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Job)) == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_a_retry_takes_known_analyses_unless_it_is_to_be_fresh(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits, *, fresh: bool
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)

    job = retried(generation_db, engine, job_id, credits_service, fresh=fresh)

    with generation_db.transaction() as session:
        assert session.get_one(Job, job["id"]).fresh is fresh


@pytest.mark.parametrize("upload_id", [new_id("ast"), "nothing", ""])
def test_a_retry_reaches_no_upload_that_the_job_did_not_have(
    generation_db: Database, engine: Engine, worker: Worker, credits_service: HoldingCredits, upload_id: str
) -> None:
    job_id = a_job_with_one_failure(generation_db, engine, worker)

    with pytest.raises(BadRequest):
        retried(generation_db, engine, job_id, credits_service, settings={"upload_id": upload_id})

    assert credits_service.calls == []


def test_a_stalled_job_is_told_of_once_each_time_it_stalls(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    sweeper.tell_of_stalled_jobs(generation_db)
    quiet = names(generation_db).count("JobStalled")
    execute(generation_db, "UPDATE jobs SET progressed_at = progressed_at - interval '6 min'")

    told = [sweeper.tell_of_stalled_jobs(generation_db) for _ in range(2)]

    assert quiet == 0
    assert told == [1, 0]
    assert [event.job_id for event in published(generation_db) if isinstance(event, JobStalled)] == [job_id]
    assert job_of(generation_db, job_id)["stalled"]


def test_syncing_has_the_provider_asked_now(generation_db: Database, engine: Engine, worker: Worker) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    execute(generation_db, "UPDATE operations SET poll_at = clock_timestamp() + interval '1 h'")

    shown = handlers.sync(generation_db, **owner_of(generation_db, job_id), job_id=job_id)

    with generation_db.transaction() as session:
        wait = session.execute(sa.text("SELECT poll_at <= clock_timestamp() FROM operations")).scalar_one()
    assert wait
    assert shown["id"] == job_id


def test_hints_in_a_row_do_not_take_an_operation_from_whoever_asks_just_now(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    provider.finish()
    (due,) = worker.due()
    event = ProviderCallbackReceived(
        meta=correlated("cor_1"), provider="replicate", operation_id=due.item.id, delivery_id="d"
    )

    with generation_db.transaction() as session:
        assert handlers.ask_providers_now(session, [event, event], engine=engine) == []
    worker.poller.follow(due)

    assert job_of(generation_db, job_id)["status"] == "succeeded"


def test_attempts_and_timeline_tell_what_happened_and_nothing_internal(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    owner = owner_of(generation_db, job_id)
    worker.send()
    with generation_db.transaction(**owner) as session:
        live = histories.attempts(session, **owner, job_id=job_id, live=True)["data"]
    provider.finish()
    worker.ask()

    with generation_db.transaction(**owner) as session:
        over = histories.attempts(session, **owner, job_id=job_id)["data"]
        still_live = histories.attempts(session, **owner, job_id=job_id, live=True)["data"]
        steps = [step["what"] for step in histories.timeline(session, **owner, job_id=job_id)["data"]]

    assert [each["status"] for each in live] == ["submitted"]
    assert [(each["status"], each["attempt"]) for each in over] == [("succeeded", 1)]
    assert still_live == []
    assert not {"prompt", "cost_microusd", "external_id"} & set(over[0])
    assert steps == [
        "job_accepted",
        "generation_started",
        "attempt_sent",
        "attempt_taken",
        "attempt_succeeded",
        "generation_succeeded",
        "job_succeeded",
    ]


def test_another_organization_reads_no_attempts(generation_db: Database, engine: Engine, worker: Worker) -> None:
    job_id = submitted(generation_db, engine, variants=1)
    worker.send()
    other = {"org_id": new_id("org"), "livemode": True}

    with generation_db.transaction(**other) as session:  # type: ignore[arg-type]  one value is text, one a truth
        assert session.scalars(sa.select(Attempt)).all() == []
        with pytest.raises(NotFound):
            histories.attempts(session, **other, job_id=job_id)  # type: ignore[arg-type]  as above


def test_the_operation_log_has_every_field_and_pages_through(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine)
    worker.send()
    provider.finish("there_0")
    provider.finish("there_1", Refused(code="invalid_input", detail="422", ran=True, cost_microusd=3))
    worker.ask()

    first = handlers.operation_log(generation_db, job_id=job_id, limit=1)
    second = handlers.operation_log(generation_db, job_id=job_id, limit=1, before=first["next_cursor"])

    entries = {entry["status"]: entry for entry in [*first["data"], *second["data"]]}
    assert set(entries) == {"completed", "failed"}
    assert not second["has_more"]
    assert entries["failed"]["cost_microusd"] == 3
    assert entries["failed"]["error_code"] == "invalid_input"
    for name in ("operation_name", "prompt_version", "request_digest", "response_digest", "processing_time_ms"):
        assert entries["completed"][name]
    with pytest.raises(BadRequest):
        handlers.operation_log(generation_db, since="yesterday")


def test_the_operation_log_is_newest_first_and_pages_through_what_was_sent_at_one_moment(
    generation_db: Database, engine: Engine, worker: Worker
) -> None:
    for _ in range(3):
        submitted(generation_db, engine)
    worker.send()
    execute(generation_db, "UPDATE attempts SET sent_at = '2026-01-31T12:00:00.000001+01:00'")
    last = submitted(generation_db, engine, variants=1)
    worker.send()

    pages, after = [], None
    while True:
        page = handlers.operation_log(generation_db, limit=2, before=after)
        pages.append([(entry["operation_id"], entry["attempt"]) for entry in page["data"]])
        after = page["next_cursor"]
        if not page["has_more"]:
            break
    newest = handlers.operation_log(generation_db, limit=1)["data"][0]

    found = [entry for each in pages for entry in each]
    assert [len(each) for each in pages] == [2, 2, 2, 1]
    assert len(set(found)) == 7
    assert newest["job_id"] == last
    assert found[1:] == sorted(found[1:], reverse=True)


@pytest.mark.parametrize("filters", [{"provider": "fal"}, {"status": "succeeded"}, {"since": "2999-01-01T00:00:00Z"}])
def test_the_operation_log_can_be_filtered(
    generation_db: Database, engine: Engine, worker: Worker, filters: dict[str, str]
) -> None:
    job_id = submitted(generation_db, engine)
    worker.send()
    of_it = {"org_id": owner_of(generation_db, job_id)["org_id"], "provider": "replicate", "status": "submitted"}

    assert len(handlers.operation_log(generation_db, job_id=job_id, **of_it)["data"]) == 2
    assert handlers.operation_log(generation_db, **filters)["data"] == []


@pytest.mark.parametrize("cursor", ["x", "1/2/3", "20260131120000000000/op_1", "20260131120000000000/op_1/x", "///"])
def test_what_is_no_place_in_the_log_is_refused(generation_db: Database, cursor: str) -> None:
    with pytest.raises(BadRequest):
        handlers.operation_log(generation_db, before=cursor)


def test_old_attempts_are_forgotten_and_those_at_work_are_not(
    generation_db: Database, engine: Engine, provider: TakingProvider, worker: Worker
) -> None:
    job_id = submitted(generation_db, engine)
    worker.send()
    provider.finish("there_0")
    worker.ask()
    execute(generation_db, "UPDATE attempts SET sent_at = sent_at - interval '2 d'")

    gone = sweeper.forget_old_attempts(generation_db, kept=timedelta(days=1))

    assert gone == 1
    assert [each.status for each in attempts_of(generation_db, job_id)] == ["submitted"]


def test_the_end_of_a_cancelled_job_names_every_line(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)

    cancelled(generation_db, job_id)

    (finished,) = [event for event in published(generation_db) if isinstance(event, JobFinished)]
    assert (finished.status, [line.outcome for line in finished.lines]) == ("cancelled", ["refunded"] * 2)
    with generation_db.transaction() as session:
        owner = owner_of(generation_db, job_id)
        assert queries.job(session, **owner, job_id=job_id)["phase"] == "Cancelled"
    assert claim(generation_db) == []
