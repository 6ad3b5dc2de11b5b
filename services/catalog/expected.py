"""Rows of uploads whose bytes go to the store directly: recorded first, fulfilled by an asset, forgotten in the end."""

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.catalog import assets
from services.catalog.assets import Expected, Upload
from services.catalog.models import ExpectedUpload
from shared.problems import Conflict


def record(session: Session, coming: Expected) -> None:
    """Write down what is coming; the same once more changes nothing, not even its times.

    Raises:
        Conflict: the id stands for something else.
    """
    send_within, collected_after = assets.awaited_for(coming.purpose, keep_original=coming.keep_original)
    row = dataclasses.asdict(coming)
    row["id"] = row.pop("upload_id")
    times = {"expires_at": sa.func.now() + send_within, "collect_after": sa.func.now() + collected_after}
    session.execute(insert(ExpectedUpload).values({**row, **times}).on_conflict_do_nothing())
    known = session.get(ExpectedUpload, coming.upload_id)
    if known is None or any(getattr(known, name) != value for name, value in row.items()):
        raise Conflict(f"The id {coming.upload_id} is taken by another upload; use a new one.")


def fulfil(session: Session, upload: Upload, *, asset_id: str) -> None:
    """Note which asset an expected upload became; one that was not expected is none of our business."""
    mine = sa.and_(ExpectedUpload.org_id == upload.org_id, ExpectedUpload.livemode == upload.livemode)
    this = ExpectedUpload.id == upload.asset_id
    session.execute(sa.update(ExpectedUpload).where(mine, this).values(asset_id=asset_id))


def due(session: Session, *, limit: int) -> list[tuple[str, str]]:
    """Return ``(id, key)`` of up to ``limit`` whose time is over."""
    over = sa.select(ExpectedUpload.id, ExpectedUpload.key).where(ExpectedUpload.collect_after <= sa.func.now())
    return [(row.id, row.key) for row in session.execute(over.order_by(ExpectedUpload.collect_after).limit(limit))]


def forget(session: Session, *, upload_ids: Sequence[str]) -> None:
    """Delete the rows: their bytes are gone."""
    session.execute(sa.delete(ExpectedUpload).where(ExpectedUpload.id.in_(upload_ids)))
