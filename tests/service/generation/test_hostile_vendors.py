"""The engine against every script of every hostile vendor: one image, one bill, money as the taxonomy says, an end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation.engine import Engine
from services.generation.failures import TAXONOMY
from services.generation.models import Attempt, Image, Job, Operation
from shared.database import Database
from shared.storage import ObjectStore
from tests.contracts.providers import VENDORS, a_photo, hostile_vendors
from tests.polling import until
from tests.service.generation.steps import SOURCE, at_work, job_of, submitted
from tests.service.generation.worker_steps import execute
from tools.hostile_providers.scripts import SCRIPTS
from tools.hostile_providers.world import World

TIME_LIMIT_SECONDS = 4
# Where the taxonomy has a request made anew though the last one was billed: what it made was of no use.
MADE_ANEW = {
    "nsfw": 2,
    "recitation": 2,
    "no_image": 3,
    "truncated_image": 2,
    "result_html": 2,
    "unknown_status": 3,
    "expired_url": 3,
}
# Images, the job's end, and the credits that were charged, refunded, and are held.
ENDS = {(1, "succeeded", 10, 0, 0), (0, "failed", 0, 10, 0), (0, "expired", 0, 10, 0)}
NEVER_MADE = {
    "rate_limited",
    "capacity",
    "error_500",
    "wrong_key",
    "model_gone",
    "invalid",
    "prompt_blocked",
    "nsfw",
    "recitation",
    "no_image",
    "truncated_image",
    "result_html",
    "failed",
}


@dataclass(frozen=True, kw_only=True)
class Story:
    """What became of one job under one script."""

    job: dict[str, Any]
    attempts: list[Attempt]
    images: list[Image]
    bills: int


@contextmanager
def impatient_vendors(vendor: str) -> Iterator[tuple[World, Engine]]:
    setting = {f"PROVIDER_{vendor.upper()}_TIME_LIMIT_SECONDS": str(TIME_LIMIT_SECONDS)}
    with hostile_vendors(time_scale=0.06, **setting) as (server, providers):
        yield server.world, Engine(providers=providers, routes={"image.stage": [vendor]})


def hurry(db: Database) -> None:
    """Let pass what is waited for by the minute: pauses before another try, and until a lost request can be found."""
    execute(
        db,
        "UPDATE operations SET due_at = clock_timestamp() WHERE id IN (SELECT id FROM operations"
        " WHERE status = 'queued' AND attempt > 0 AND due_at > clock_timestamp() FOR UPDATE SKIP LOCKED)",
    )
    execute(
        db,
        "UPDATE operations SET sent_at = sent_at - interval '118 s', poll_at = clock_timestamp() + interval '2 s'"
        " WHERE id IN (SELECT id FROM operations WHERE status = 'unknown'"
        " AND sent_at > clock_timestamp() - interval '100 s' FOR UPDATE SKIP LOCKED)",
    )


def told(db: Database, world: World, job_id: str) -> Story:
    with db.transaction() as session:
        (operation_id,) = session.scalars(sa.select(Operation.id).where(Operation.job_id == job_id))
        attempts = session.scalars(sa.select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.attempt)).all()
        images = session.scalars(sa.select(Image).where(Image.job_id == job_id)).all()
    return Story(job=job_of(db, job_id), attempts=list(attempts), images=list(images), bills=world.billed(operation_id))


@pytest.mark.parametrize("vendor", VENDORS)
def test_whatever_a_vendor_does_there_is_one_image_one_bill_and_an_end(
    generation_db: Database, store: ObjectStore, vendor: str
) -> None:
    store.put(key=SOURCE, chunks=a_photo(), content_type="image/jpeg")
    with impatient_vendors(vendor) as (world, engine):
        jobs = {script: submitted(generation_db, engine, variants=1) for script in SCRIPTS}
        for script, job_id in jobs.items():
            execute(
                generation_db,
                "UPDATE operations SET prompt = prompt || :directive WHERE job_id = :job_id",
                directive=f" [[script:{script}]]",
                job_id=job_id,
            )

        def all_ended() -> bool:
            hurry(generation_db)
            with generation_db.transaction() as session:
                return not session.scalar(sa.select(sa.func.count()).where(Job.finished_at.is_(None)))

        with at_work(generation_db, store, engine, slots=12):
            until(all_ended, seconds=90, what="the end of every job")
        stories = {script: told(generation_db, world, job_id) for script, job_id in jobs.items()}

    wrong = {script: problems for script, story in stories.items() if (problems := wrong_with(script, story, store))}
    assert wrong == {}


def wrong_with(script: str, story: Story, store: ObjectStore) -> list[str]:
    """Return what is wrong with a story."""
    job, made = story.job, len(story.images)
    failure = job["generations"][0]["failure"]
    came_to = (made, job["status"], job["charged"], job["refunded"], job["reserved"])
    wrong = {
        f"it came to {came_to}": came_to not in ENDS,
        f"it did not succeed: {failure}": script == "ok" and not made,
        "there is an image of nothing": script in NEVER_MADE and made,
        f"a reason of no taxonomy: {failure}": failure and failure["reason"] not in TAXONOMY,
        "an image has no bytes": any(store.stat(image.key) is None for image in story.images),
        f"{story.bills} bills": story.bills > MADE_ANEW.get(script, 1),
        "an attempt never ended": any(attempt.status == "sent" for attempt in story.attempts),
        "what may have been made was asked for again": any(
            attempt.error_code == "outcome_unknown" for attempt in story.attempts[:-1]
        ),
        "an image that cost nothing": made and not sum(attempt.cost_microusd or 0 for attempt in story.attempts),
    }
    return [problem for problem, is_so in wrong.items() if is_so]
