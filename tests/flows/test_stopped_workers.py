"""A worker that stood still past its lease and goes on: it writes neither row nor object, whatever it has in hand.

The worker is a process that SIGSTOP stops, between two of its steps or while vendors answer; another takes over.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from services.generation import hints, sweeper
from services.generation.scheduler import SEND_WITHIN_SECONDS
from services.generation.sweeper import Suspects
from tests.conftest import NewVhost, lending
from tests.contracts.providers import VENDORS
from tests.databases import Databases
from tests.flows.processes import PRICE, Process, Story, System, system
from tests.polling import until
from tests.service.generation.steps import at_work, job_of, lapse
from tools import objects
from tools.objects import Survey

pytestmark = pytest.mark.broker

LONG_AGO = timedelta(seconds=195)
IMAGES = "images/"


@pytest.fixture(scope="module")
def engine(databases: Databases, new_vhost: NewVhost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("stopped")
    with (
        lending(databases) as make_database,
        system(make_database, new_vhost, folder=folder, time_scale=1, CRASH_FILE=str(folder / "crash")) as running,
    ):
        yield running


@pytest.fixture
def worker(engine: System) -> Iterator[Process]:
    with engine.process("generation-worker") as process:
        yield process


def stopped_at(engine: System, worker: Process, point: str, *, vendor: str) -> str:
    """Submit a job, and let the worker stand still where it has come to ``point`` with it; return the job's id."""
    Path(engine.environment["CRASH_FILE"]).write_text(f"stop {point}")
    (job_id,) = engine.submitted(vendor, script="ok")
    until(worker.is_stopped, seconds=60, what=f"a worker that stands still {point}")
    return job_id


def leases_pass(engine: System) -> None:
    """Let so much time pass that whatever the worker held is anybody's, and what is lost can be looked for."""
    until(lambda: lapsed(engine), seconds=20, what="the end of what the worker was writing when it was stopped")
    sweeper.recover_lost_operations(engine.db, engine.engine, Suspects(patience_seconds=0))
    engine.execute(
        "UPDATE operations SET poll_at = clock_timestamp(), sent_at = sent_at - CAST(:ago AS interval)"
        " WHERE poll_at IS NOT NULL",
        ago=LONG_AGO,
    )
    engine.age_predictions(lambda _prompt: True, by=LONG_AGO)


def lapsed(engine: System) -> bool:
    """Let the leases run out; False while the worker holds a row, until PostgreSQL ends its session after 5 s."""
    with contextlib.suppress(OperationalError):
        lapse(engine.db)
        return True
    return False


def ended(engine: System, *job_ids: str) -> Callable[[], bool]:
    return lambda: all(job_of(engine.db, job_id)["finished_at"] for job_id in job_ids)


def assert_one_image_was_made_and_charged_once(engine: System, story: Story) -> None:
    assert (story.job["status"], story.job["charged"], len(story.images)) == ("succeeded", PRICE, 1)
    assert [each.status for each in story.attempts][-1] == "succeeded"
    assert sorted(engine.store.keys(IMAGES)) == engine.named_keys()


def assert_the_wallet_says_the_same(engine: System) -> None:
    made = engine.found("SELECT count(*) FROM images")
    until(lambda: engine.wallet()["held"] == 0, what="the settlement of every line")
    assert engine.wallet()["available"] == engine.balance - PRICE * made


@pytest.mark.parametrize(
    ("vendor", "point", "bills", "objects_left"),
    [
        ("local", "scheduler.after_store", 0, 2),
        ("replicate", "poller.after_poll", 1, 0),
        ("replicate", "scheduler.after_store", 1, 2),
        ("replicate", "scheduler.after_sent", 1, 0),
    ],
)
def test_what_a_worker_has_in_hand_when_it_stands_still_is_made_by_another_and_its_own_is_gone(
    engine: System,
    worker: Process,
    monkeypatch: pytest.MonkeyPatch,
    *,
    vendor: str,
    point: str,
    bills: int,
    objects_left: int,
) -> None:
    job_id = stopped_at(engine, worker, point, vendor=vendor)
    stopped = time.monotonic()
    left = set(engine.store.keys(IMAGES)) - set(engine.named_keys())

    leases_pass(engine)
    with at_work(engine.db, engine.store, engine.engine):
        until(ended(engine, job_id), seconds=60, what="the job's end by another worker")
    before = sorted(engine.named_keys())
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    orphans = {each.key for each in objects.orphans(engine.store, Survey(), older_than=timedelta(0))}
    if point == "scheduler.after_sent":  # where it looks at a clock of its own, which nobody turns on for it
        until(lambda: time.monotonic() - stopped > SEND_WITHIN_SECONDS, seconds=30, what="a long time")
    worker.go_on_and_end()

    story = engine.story(job_id)
    assert_one_image_was_made_and_charged_once(engine, story)
    assert engine.named_keys() == before
    assert {key for key in orphans if key.startswith(IMAGES)} == left, "what it left behind would have been collected"
    assert len(left) == objects_left
    assert story.bills == bills
    assert_the_wallet_says_the_same(engine)


def test_what_vendors_answer_to_a_worker_that_stood_still_is_adopted_once_or_given_back(
    engine: System, worker: Process
) -> None:
    engine.world.crowd = 1000
    jobs = {vendor: engine.submitted(vendor, script="slow")[0] for vendor in VENDORS}
    until(lambda: len(asked_of(engine, jobs)) == len(VENDORS), seconds=60, what="a request to every vendor")

    worker.stop()
    leases_pass(engine)
    with at_work(engine.db, engine.store, engine.engine, slots=8):
        searched = jobs.pop("replicate")
        until(
            lambda: engine.found("SELECT external_id FROM operations WHERE job_id = :id", id=searched),
            seconds=30,
            what="what Replicate has, found by another worker",
        )
        until(ended(engine, *jobs.values()), seconds=30, what="the end of what cannot be searched")
        engine.world.let_go()
        worker.go_on_and_end()
        with engine.db.transaction() as session:
            hints.hint_job(session, searched)
        until(ended(engine, searched), seconds=30, what="the end of what Replicate does")

    found = engine.story(searched)
    assert_one_image_was_made_and_charged_once(engine, found)
    assert found.bills == 1
    for vendor, job_id in jobs.items():
        story = engine.story(job_id)
        assert (story.job["refunded"], story.reason, story.bills) == (PRICE, "outcome_unknown", 1), vendor
        assert story.images == []
        if vendor != "fal":  # which has only said that it took it, and was told to stop
            assert [(each.status, bool(each.cost_microusd)) for each in story.attempts] == [("late", True)], vendor
    assert [job["cancelled"] for job in engine.world.jobs.values() if "cancelled" in job] == [True]
    assert_the_wallet_says_the_same(engine)


def asked_of(engine: System, jobs: dict[str, str]) -> list[str]:
    return [vendor for vendor, job_id in jobs.items() if engine.story(job_id).bills]
