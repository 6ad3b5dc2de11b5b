"""Rows of uploads whose bytes go to the store directly: recorded first, fulfilled by an asset, forgotten in the end."""

import dataclasses
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.catalog import assets
from services.catalog.assets import Expected, Upload
from services.catalog.models import ExpectedUpload
from shared.problems import Conflict, LimitExceeded

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('expected_uploads:' || :org_id, 0))")


def record(session: Session, coming: Expected) -> None:
    """Write down what is coming; the same once more changes nothing, not even its times.

    Raises:
        Conflict: the id stands for something else.
        LimitExceeded: the organization has 100 open already.
    """
    _require_fewer(session, coming)
    send_within, collected_after = assets.awaited_for(coming.purpose)
    row = dataclasses.asdict(coming)
    row["id"] = row.pop("upload_id")
    times = {"expires_at": sa.func.now() + send_within, "collect_after": sa.func.now() + collected_after}
    session.execute(insert(ExpectedUpload).values({**row, **times}).on_conflict_do_nothing())
    known = session.get(ExpectedUpload, coming.upload_id)
    if known is None or any(getattr(known, name) != value for name, value in row.items()):
        raise Conflict(f"The id {coming.upload_id} is taken by another upload; use a new one.")


def _require_fewer(session: Session, coming: Expected) -> None:
    """Refuse one above the limit; those announced at once are counted one after the other."""
    session.execute(_LOCK, {"org_id": coming.org_id})
    if session.get(ExpectedUpload, coming.upload_id) is not None:
        return
    mine = sa.and_(ExpectedUpload.org_id == coming.org_id, ExpectedUpload.livemode == coming.livemode)
    is_open = sa.and_(ExpectedUpload.asset_id.is_(None), ExpectedUpload.expires_at > sa.func.now())
    outstanding = session.scalar(sa.select(sa.func.count()).select_from(ExpectedUpload).where(mine, is_open)) or 0
    if outstanding >= assets.OUTSTANDING_MAX:
        raise LimitExceeded(
            f"{outstanding} uploads are announced and not completed, and {assets.OUTSTANDING_MAX} may be; complete "
            "some, or wait until their links expire.",
            limit=assets.OUTSTANDING_MAX,
            excess=outstanding + 1 - assets.OUTSTANDING_MAX,
        )


def fulfil(session: Session, upload: Upload, *, asset_id: str) -> None:
    """Note which asset an expected upload became; one that was not expected is none of our business."""
    mine = sa.and_(ExpectedUpload.org_id == upload.org_id, ExpectedUpload.livemode == upload.livemode)
    this = ExpectedUpload.id == upload.asset_id
    session.execute(sa.update(ExpectedUpload).where(mine, this).values(asset_id=asset_id))


def sent_for(session: Session, asset_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return under which keys the bytes of assets were sent; they may be there still, as they came."""
    sent: dict[str, list[str]] = {}
    which = sa.select(ExpectedUpload.asset_id, ExpectedUpload.key).where(ExpectedUpload.asset_id.in_(list(asset_ids)))
    for asset_id, key in session.execute(which):
        sent.setdefault(str(asset_id), []).append(key)
    return sent


def due(session: Session, *, limit: int) -> list[tuple[str, list[str]]]:
    """Return ``(id, keys)`` of up to ``limit`` whose time is over, in no fixed order."""
    over = sa.select(ExpectedUpload.id, ExpectedUpload.key).where(ExpectedUpload.collect_after <= sa.func.now())
    return [(row.id, [row.key]) for row in session.execute(over.order_by(sa.func.random()).limit(limit))]


def forget(session: Session, *, upload_ids: Sequence[str]) -> None:
    """Delete the rows: their bytes are gone."""
    session.execute(sa.delete(ExpectedUpload).where(ExpectedUpload.id.in_(upload_ids)))
