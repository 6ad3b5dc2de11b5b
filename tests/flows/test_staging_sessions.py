"""Staging sessions under the hostile bus: whatever is lost, repeated or cancelled, they say what their jobs do.

Nobody gets a third free retry, no number is missing or given twice, and credits agree.
"""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from services.generation import staging_steps
from shared.database import Database
from shared.events import StagingSessionChanged
from shared.ids import new_id
from shared.problems import Problem
from shared.storage import open_store
from tests.flows.world import SOURCE, World

SEEDS = range(6)
STEPS = 120
BALANCE = 400
PRICE = 10


class Studio:
    """People at work on a few sessions, all at once and without looking."""

    def __init__(self, world: World, *, sessions: int) -> None:
        self.world = world
        self.chance = world.chance
        self.owner: dict[str, Any] = {"org_id": world.org_id, "livemode": True}
        self.session_ids = [new_id("ses") for _ in range(sessions)]
        self.deleted: set[str] = set()
        self.sent: list[tuple[str, dict[str, Any]]] = []
        for number, session_id in enumerate(self.session_ids):
            world.generation.create_staging_session(
                **self.owner,
                session_id=session_id,
                user_id=None,
                name=f"room {number}",
                room_state="already_empty" if number == 0 else "generate_empty",
                asset={"id": new_id("ast"), "key": SOURCE},
            )

    def generate(self) -> None:
        """Ask for an empty room, mostly by the number that is next."""
        session_id = self.chance.choice(self.session_ids)
        guess = self.now(session_id)["next_retry_number"] if session_id not in self.deleted else 0
        wrong = self.chance.choice([0, 0, 0, 0, -1, 1])
        self.send("generate_empty_room", session_id=session_id, retry_number=max(0, guess + wrong))

    def stage(self) -> None:
        inputs = {"style": "modern", "room_type": "bedroom", "variants": self.chance.randint(1, 3)}
        self.send("stage_session", session_id=self.chance.choice(self.session_ids), inputs=inputs)

    def send(self, method: str, **what: Any) -> None:
        order = {**self.owner, **what, "user_id": None, "job_id": new_id("job")}
        self.sent.append((method, order))
        self.call(method, **order)

    def repeat(self) -> None:
        """Send something again that was sent before, under the same job's id."""
        if self.sent:
            method, order = self.chance.choice(self.sent)
            self.call(method, **order)

    def choose(self) -> None:
        """Select an empty room of some session, mostly for the same session."""
        rooms = [
            (one["id"], image["id"])
            for one in self.shown()
            for attempt in one["empty_rooms"]
            for image in attempt["images"]
        ]
        if rooms:
            session_id, image_id = self.chance.choice(rooms)
            session_id = self.chance.choice([session_id] * 4 + self.session_ids[:1])
            self.call("select_empty_room", **self.owner, session_id=session_id, image_id=image_id)

    def lock(self) -> None:
        self.call("lock_empty_room", **self.owner, session_id=self.chance.choice(self.session_ids))

    def cancel(self) -> None:
        jobs = [job for job in self.world.jobs() if not job["finished_at"]]
        if jobs:
            self.call("cancel", **self.owner, job_id=self.chance.choice(jobs)["id"])

    def retry(self) -> None:
        jobs = [job for job in self.world.jobs() if job["counts"]["failed"]]
        if jobs:
            again = {"job_id": self.chance.choice(jobs)["id"], "new_job_id": new_id("job"), "user_id": None}
            self.call("retry", **self.owner, **again)

    def delete(self) -> None:
        session_id = self.session_ids[-1]
        self.call("delete_staging_session", **self.owner, session_id=session_id)
        self.deleted = set(self.session_ids) - {one["id"] for one in self.shown()}

    def wait(self) -> None:
        """Let an hour pass in which nothing bad happens."""
        self.world.rest()
        self.world.remote_credits.loses_answers = self.world.remote_generation.loses_answers = True

    def call(self, method: str, **arguments: Any) -> None:
        with contextlib.suppress(Problem):
            getattr(self.world.remote_generation, method)(**arguments)

    def now(self, session_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.world.generation.staging_session(**self.owner, session_id=session_id)
        return found

    def shown(self) -> list[dict[str, Any]]:
        listed = self.world.generation.staging_sessions(**self.owner, attempts=500)["data"]
        return list(listed)


@pytest.fixture(params=SEEDS)
def studio(request: Any, credits_db: Database, generation_db: Database, tmp_path: Path) -> Studio:
    """Give a studio after a walk in which anything has happened, come to rest."""
    store = open_store(f"file://{tmp_path}/objects")
    world = World(
        credits_db=credits_db, generation_db=generation_db, store=store, seed=1000 + request.param, balance=BALANCE
    )
    found = Studio(world, sessions=4)
    people = [found.generate, found.generate, found.stage, found.choose, found.lock, found.repeat]
    seldom = [found.cancel, found.retry, world.give_up_reserving, world.expire_a_job, world.lose_leases]
    machines = [world.claim, world.work, world.work, world.deliver, found.wait, found.wait]
    for step in range(STEPS):
        world.chance.choice([*people, *people, *machines, *machines, *seldom])()
        if step == STEPS * 2 // 3:
            found.delete()
    found.delete()
    world.heal()
    return found


def test_sessions_come_to_rest_as_their_jobs_say_and_as_credits_do(studio: Studio) -> None:
    require_numbers_and_statuses(studio)
    require_prices(studio)
    require_every_version_told_once(studio)


def require_numbers_and_statuses(studio: Studio) -> None:
    sessions = studio.shown()

    assert sessions
    assert studio.deleted == {studio.session_ids[-1]}
    for one in sessions:
        empty = [each for each in one["empty_rooms"] if each["status"] == "succeeded"]
        variants = [each for each in one["stagings"] if each["status"] == "succeeded"]
        assert [each["retry_number"] for each in empty] == list(range(len(empty)))
        assert sorted(each["number"] for each in variants) == list(range(1, len(variants) + 1))
        assert one["counts"] == {"empty_rooms": len(empty), "stagings": len(variants)}
        assert {each["number"] for each in one["stagings"] if each["status"] == "failed"} <= {None}
        expected = "completed" if variants else "locked" if one["locked_at"] else "selecting" if empty else "draft"
        assert one["status"] == expected
        chosen = {image["id"] for each in empty for image in each["images"]}
        assert one["selected_image_id"] in {None, *chosen}
        sources = {image["parent_id"] for each in variants for image in each["images"]}
        assert sources <= {one["selected_image_id"]}


def require_prices(studio: Studio) -> None:
    for one in studio.shown():
        for each in one["empty_rooms"]:
            free = each["status"] == "failed" or staging_steps.is_free(each["retry_number"])
            assert each["charged"] == (0 if free else PRICE), each
        assert {each["charged"] for each in one["stagings"]} <= {0, PRICE}
    world = studio.world
    charged = sum(job["charged"] for job in world.jobs())
    assert (world.wallet()["available"], world.wallet()["held"]) == (BALANCE - charged, 0)
    assert world.violations() == []


def require_every_version_told_once(studio: Studio) -> None:
    told: dict[str, list[int]] = {}
    for event in studio.world.bus.published:
        if isinstance(event, StagingSessionChanged):
            told.setdefault(event.session_id, []).append(event.version)

    versions = {one["id"]: one["version"] for one in studio.shown()}
    for session_id, last in versions.items():
        assert sorted(told[session_id]) == list(range(1, last + 1))
