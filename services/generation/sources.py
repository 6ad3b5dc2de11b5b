"""What became of the uploads that jobs are made of: there, or deleted by now. It must not know the catalog."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import queries
from services.generation.models import DeletedSource, Job
from shared.events import Event, SourceDeleted
from shared.problems import NotFound, SourceGone
from shared.times import rfc3339

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Original:
    """An upload as a job's snapshot has it, and whether it is there ``now``.

    ``deleted_at`` is when the catalog told that its bytes went, with the ``reason``. From ``delete_after`` on it counts
    as gone whether or not that was told yet.
    """

    upload_id: str
    now: datetime
    delete_after: datetime | None
    deleted_at: datetime | None = None
    reason: str | None = None

    @property
    def available(self) -> bool:
        """Whether something can be made of it."""
        return self.deleted_at is None and (self.delete_after is None or self.now < self.delete_after)

    def as_dict(self) -> dict[str, Any]:
        """Return it in the contract's shape."""
        return {
            "upload_id": self.upload_id,
            "available": self.available,
            "delete_after": rfc3339(self.delete_after) if self.delete_after else None,
            "deleted_at": rfc3339(self.deleted_at) if self.deleted_at else None,
            "reason": self.reason,
        }


def note_deleted(session: Session, events: Sequence[SourceDeleted]) -> list[Event]:
    """Remember uploads whose bytes are gone, each once."""
    rows = {
        event.asset_id: {
            "asset_id": event.asset_id,
            "org_id": event.org_id,
            "livemode": event.livemode,
            "reason": event.reason,
            "deleted_at": datetime.fromisoformat(event.meta.time) if event.meta else sa.func.now(),
        }
        for event in events
    }
    in_order = [rows[asset_id] for asset_id in sorted(rows)]
    session.execute(insert(DeletedSource).values(in_order).on_conflict_do_nothing())
    log.info("sources_gone", asset_ids=sorted(rows))
    return []


def originals(session: Session, uploads: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Original]:
    """Return what is known of uploads, by id; each comes with its snapshot."""
    known = dict(uploads)
    if not known:
        return {}
    now = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    rows = session.scalars(sa.select(DeletedSource).where(DeletedSource.asset_id.in_(known)))
    gone = {row.asset_id: row for row in rows}
    return {upload_id: _original(upload_id, asset, gone.get(upload_id), now=now) for upload_id, asset in known.items()}


def of_image(session: Session, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
    """Return ``{image, original}``: an image, and what became of the upload it was made of, the first where of several.

    Raises:
        NotFound: the organization has no such image in this mode, or it was made of no upload.
    """
    image = queries.image(session, org_id=org_id, livemode=livemode, image_id=image_id)
    job = session.get_one(Job, image["job_id"])
    upload_id = image["settings"].get("upload_id") or job.inputs.get("upload_id")
    if upload_id is None or upload_id not in job.assets:
        raise NotFound("This image was made of no upload that it could be compared with.")
    known = originals(session, [(upload_id, job.assets[upload_id])])
    return {"image": image, "original": known[upload_id].as_dict()}


def require_there(session: Session, assets: Mapping[str, Mapping[str, Any]]) -> None:
    """Make sure that the uploads of a job can be worked on still; ``assets`` has their snapshots by id.

    An image of ours that stands in the place of an upload is there whatever became of that.

    Raises:
        SourceGone: one of them was deleted.
    """
    uploads = ((one, asset) for one, asset in assets.items() if one.startswith("ast_") and "image_id" not in asset)
    gone = [original for original in originals(session, uploads).values() if not original.available]
    if gone:
        told = gone[0].as_dict()
        moment = told["deleted_at"] or told["delete_after"]
        raise SourceGone(
            f"The photo was deleted ({gone[0].reason or 'retention'}): upload it again.",
            upload_id=gone[0].upload_id,
            deleted_at=moment,
            reason=gone[0].reason or "retention",
        )


def latest_end(assets: Mapping[str, Mapping[str, Any]]) -> datetime | None:
    """Return when the first of a job's uploads is deleted: it has to end before; None where all of them stay."""
    ends = [asset["delete_after"] for asset in assets.values() if asset.get("delete_after")]
    return min((datetime.fromisoformat(one) for one in ends), default=None)


def _original(upload_id: str, asset: Mapping[str, Any], row: DeletedSource | None, *, now: datetime) -> Original:
    after = asset.get("delete_after")
    return Original(
        upload_id=upload_id,
        now=now,
        delete_after=datetime.fromisoformat(after) if after else None,
        deleted_at=row.deleted_at if row else None,
        reason=row.reason if row else None,
    )
