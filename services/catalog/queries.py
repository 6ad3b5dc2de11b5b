"""Reads of the catalog, from a session to plain values; each names the organization whose rows it may show."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.catalog import assets
from services.catalog.models import Asset
from shared.problems import NotFound
from shared.times import rfc3339

_PRESENT = sa.and_(
    Asset.deletion_reason.is_(None),
    sa.or_(Asset.delete_after.is_(None), Asset.delete_after > sa.func.now()),
)


def asset(session: Session, *, org_id: str, asset_id: str) -> dict[str, Any]:
    """Return one asset (see `as_dict`).

    Raises:
        NotFound: there is none here, or its deletion has begun.
    """
    found = session.scalar(sa.select(Asset).where(Asset.org_id == org_id, Asset.id == asset_id, _PRESENT))
    if found is None:
        raise NotFound("There is no such upload; it may have been deleted.")
    return as_dict(found)


def resolve(session: Session, *, org_id: str, asset_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a job needs to know of each asset, by id, so that it never has to ask again.

    Each is ``{id, key, sha256, content_type, bytes, width, height, purpose, delete_after}``.

    Raises:
        NotFound: one or more are not here; ``missing`` lists their ids.
    """
    found = session.scalars(sa.select(Asset).where(Asset.org_id == org_id, Asset.id.in_(asset_ids), _PRESENT))
    snapshots = {row.id: _snapshot(row) for row in found}
    missing = sorted(set(asset_ids) - snapshots.keys())
    if missing:
        raise NotFound("No such upload: " + ", ".join(missing), missing=missing)
    return snapshots


def as_dict(row: Asset) -> dict[str, Any]:
    """Return an asset as the other services see it; times are RFC 3339, sizes bytes and pixels."""
    return {
        **_snapshot(row),
        "created_at": rfc3339(row.created_at),
        "warnings": assets.warnings(width=row.width, height=row.height),
    }


def _snapshot(row: Asset) -> dict[str, Any]:
    return {
        "id": row.id,
        "key": row.key,
        "sha256": row.sha256,
        "content_type": row.content_type,
        "bytes": row.bytes,
        "width": row.width,
        "height": row.height,
        "purpose": row.purpose,
        "delete_after": rfc3339(row.delete_after) if row.delete_after else None,
    }
