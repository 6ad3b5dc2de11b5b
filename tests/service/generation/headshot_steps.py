"""Headshots as tests drive them: jobs as the gateway submits them, and an original that goes when the test says."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.generation import favorites, handlers, headshots, removing, retrying, sources
from services.generation.engine import Engine
from services.generation.submissions import Submission
from shared.database import Database
from shared.events import SourceDeleted, correlated
from shared.ids import new_id
from shared.storage import ObjectStore
from shared.times import rfc3339
from tests.fakes import HoldingCredits
from tests.service.generation.steps import adopt, begun, claim, fail_one


class Sitter:
    """A person with one uploaded face, of an organization and in a mode of its own unless told."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        *,
        org_id: str | None = None,
        livemode: bool = True,
        kept_for: timedelta | None = timedelta(minutes=30),
    ) -> None:
        self.db = db
        self.engine = engine
        self.credits = HoldingCredits()
        self.owner = {"org_id": org_id or new_id("org"), "livemode": livemode}
        self.user_id = new_id("usr")
        self.upload_id = new_id("ast")
        until = rfc3339(datetime.now(UTC) + kept_for) if kept_for is not None else None
        self.asset = {
            "id": self.upload_id,
            "key": "assets/org/a.jpg",
            "sha256": "0" * 64,
            "purpose": "face",
            "delete_after": until,
        }

    def order(self, *styles: str, **more: Any) -> Submission:
        inputs = {"upload_id": self.upload_id, "aspect_ratio": "1:1", "quality": "high", "styles": list(styles)}
        return Submission(
            **{
                "job_id": new_id("job"),
                **self.owner,
                "user_id": self.user_id,
                "workflow": "headshot",
                "inputs": inputs,
                "assets": {self.upload_id: self.asset},
                **more,
            }
        )

    def ask(self, *styles: str, **more: Any) -> dict[str, Any]:
        answer = handlers.submit(self.db, self.credits, self.engine, self.order(*styles, **more))
        job: dict[str, Any] = answer["job"]
        return job

    def retry(self, job_id: str) -> dict[str, Any]:
        answer = retrying.retry(
            self.db,
            self.credits,
            self.engine,
            **self.owner,
            job_id=job_id,
            new_job_id=new_id("job"),
            user_id=self.user_id,
        )
        job: dict[str, Any] = answer["job"]
        return job

    def succeed(self) -> None:
        """Let everything that is due succeed."""
        while items := begun(self.db, claim(self.db)):  # test keys have one turn at a time
            for item in items:
                assert adopt(self.db, self.engine, item)

    def fail(self) -> None:
        """Let everything that is due fail for good."""
        for item in begun(self.db, claim(self.db)):
            fail_one(self.db, item)

    def made(self, *styles: str) -> list[dict[str, Any]]:
        """Make headshots; return them, in the order of their styles."""
        self.ask(*styles)
        self.succeed()
        shown = {each["style"]: each for each in self.history()}
        return [shown[style] for style in styles]

    def history(self, **filters: Any) -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = self.page(**filters)["data"]
        return data

    def page(self, **filters: Any) -> dict[str, Any]:
        with self.db.transaction(**self.owner) as session:
            return headshots.page(session, **self.owner, **filters)

    def one(self, headshot_id: str) -> dict[str, Any]:
        with self.db.transaction(**self.owner) as session:
            return headshots.one(session, **self.owner, headshot_id=headshot_id)

    def stats(self) -> dict[str, Any]:
        with self.db.transaction(**self.owner) as session:
            return headshots.stats(session, **self.owner, user_id=self.user_id)

    def mark(self, headshot_id: str, *, favorite: bool = True) -> dict[str, Any]:
        return favorites.mark_headshot(
            self.db, **self.owner, headshot_id=headshot_id, user_id=self.user_id, favorite=favorite
        )

    def delete(self, store: ObjectStore, headshot_id: str) -> None:
        removing.delete_headshot(self.db, store, **self.owner, headshot_id=headshot_id, user_id=self.user_id)

    def original_deleted(self, *, reason: str = "retention") -> SourceDeleted:
        """Tell that the original is gone; return what was told."""
        event = SourceDeleted(
            meta=correlated("cor_1"), asset_id=self.upload_id, reason=reason, sha256="0" * 64, **self.owner
        )
        self.tell(event)
        return event

    def tell(self, *events: SourceDeleted) -> None:
        with self.db.transaction() as session:
            sources.note_deleted(session, events)
