"""A staging session as tests drive it: commands as the gateway calls them, and jobs that end as the test says."""

from typing import Any

import sqlalchemy as sa

from services.generation import staging_histories, staging_sessions
from services.generation.engine import Engine
from services.generation.models import Job
from shared.database import Database
from shared.ids import new_id
from tests.fakes import HoldingCredits
from tests.service.generation.steps import adopt, begun, claim, fail_one

STYLED = {"style": "modern", "room_type": "bedroom", "variants": 2}


class Room:
    """One session, of an organization and in a mode of its own unless told."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        credits_service: HoldingCredits,
        *,
        org_id: str | None = None,
        livemode: bool = True,
        **given: Any,
    ) -> None:
        self.db = db
        self.engine = engine
        self.credits = credits_service
        self.id = new_id("ses")
        self.owner = {"org_id": org_id or new_id("org"), "livemode": livemode}
        self.asset = {"id": new_id("ast"), "key": "assets/org/a.jpg", "sha256": "0" * 64}
        self.given = {"room_state": "generate_empty", "name": "Elm Street 4", "user_id": None, **given}
        self.made = self.create()

    @property
    def named(self) -> dict[str, Any]:
        return {**self.owner, "session_id": self.id}

    @property
    def now(self) -> dict[str, Any]:
        with self.db.transaction(**self.owner) as session:
            return staging_histories.one(session, **self.named)

    @property
    def allowed(self) -> list[str]:
        return [each["action"] for each in self.now["next_actions"]]

    def create(self) -> dict[str, Any]:
        return staging_sessions.create(self.db, **self.named, asset=self.asset, **self.given)

    def order(self, **more: Any) -> dict[str, Any]:
        return {**self.named, "user_id": None, "job_id": new_id("job"), **more}

    def empty(self, retry_number: int, **more: Any) -> dict[str, Any]:
        answer = staging_sessions.generate_empty_room(
            self.db, self.credits, self.engine, retry_number=retry_number, order=self.order(**more)
        )
        job: dict[str, Any] = answer.get("job", answer)
        return job

    def stage(self, *, inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        answer = staging_sessions.stage(
            self.db, self.credits, self.engine, inputs=inputs or STYLED, order=self.order(**more)
        )
        job: dict[str, Any] = answer.get("job", answer)
        return job

    def change(self, *, only_versions: list[str] | None = None, **given: Any) -> dict[str, Any]:
        return staging_sessions.change(self.db, **self.named, only_versions=only_versions, given=given)

    def select(self, image_id: str, **more: Any) -> dict[str, Any]:
        return staging_sessions.select(self.db, **self.named, image_id=image_id, **more)

    def lock(self, **more: Any) -> dict[str, Any]:
        return staging_sessions.lock_empty_room(self.db, **self.named, **more)

    def delete(self, **more: Any) -> None:
        staging_sessions.delete(self.db, **self.named, **more)

    def succeed(self) -> None:
        """Let everything that is due succeed."""
        while items := begun(self.db, claim(self.db)):  # test keys have one turn at a time
            for item in items:
                assert adopt(self.db, self.engine, item)

    def fail(self) -> None:
        """Let everything that is due fail for good."""
        while items := begun(self.db, claim(self.db)):
            for item in items:
                fail_one(self.db, item)

    def with_empty_rooms(self, count: int) -> list[str]:
        """Make so many empty rooms; return the ids of their images."""
        for number in range(count):
            self.empty(number)
            self.succeed()
        return [attempt["images"][0]["id"] for attempt in self.now["empty_rooms"]]

    def locked(self) -> str:
        """Bring the session to where it can be staged; return the id of the empty room."""
        (image_id,) = self.with_empty_rooms(1)
        self.select(image_id)
        self.lock()
        return image_id


def amounts(db: Database, job_id: str) -> list[tuple[str | None, int | None, int | None]]:
    """Return ``(sku, held, charged)`` of each generation of a job."""
    with db.transaction() as session:
        statement = sa.text("SELECT sku, amount, charged FROM generations WHERE job_id = :job_id ORDER BY number")
        return [tuple(row) for row in session.execute(statement, {"job_id": job_id})]


def job_row(db: Database, job_id: str) -> Job:
    with db.transaction() as session:
        return session.get_one(Job, job_id)
