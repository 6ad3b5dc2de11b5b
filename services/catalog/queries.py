"""Reads of the catalog, from a session to plain values; each names the organization whose rows it may show."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.catalog import assets
from services.catalog.models import Asset, ExpectedUpload
from shared.problems import NotFound
from shared.times import rfc3339

PRESENT = sa.and_(
    Asset.deletion_reason.is_(None),
    sa.or_(Asset.delete_after.is_(None), Asset.delete_after > sa.func.now()),
)


def asset(session: Session, *, org_id: str, asset_id: str) -> dict[str, Any]:
    """Return one asset (see `as_dict`).

    Raises:
        NotFound: there is none here, or its deletion has begun.
    """
    found = session.scalar(sa.select(Asset).where(Asset.org_id == org_id, Asset.id == asset_id, PRESENT))
    if found is None:
        raise NotFound("There is no such upload; it may have been deleted.")
    return as_dict(found)


def resolve(session: Session, *, org_id: str, asset_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a job needs to know of each asset, by id, so that it never has to ask again.

    Each is ``{id, key, sha256, content_type, bytes, width, height, purpose, delete_after}``.

    Raises:
        NotFound: one or more are not here; ``missing`` lists their ids.
    """
    found = session.scalars(sa.select(Asset).where(Asset.org_id == org_id, Asset.id.in_(asset_ids), PRESENT))
    snapshots = {row.id: _snapshot(row) for row in found}
    missing = sorted(set(asset_ids) - snapshots.keys())
    if missing:
        raise NotFound("No such upload: " + ", ".join(missing), missing=missing)
    return snapshots


def expected_upload(session: Session, *, org_id: str, upload_id: str) -> dict[str, Any]:
    """Return one upload whose bytes go to the store directly (see `expected_as_dict`).

    Raises:
        NotFound: there is none here, or its time is over.
    """
    mine = sa.and_(ExpectedUpload.org_id == org_id, ExpectedUpload.id == upload_id)
    found = session.scalar(sa.select(ExpectedUpload).where(mine, ExpectedUpload.collect_after > sa.func.now()))
    if found is None:
        raise NotFound("There is no such upload to complete; links to send one to are made by /v1/uploads/presign.")
    return expected_as_dict(found)


def expected_as_dict(row: ExpectedUpload) -> dict[str, Any]:
    """Return an expected upload as the gateway sees it; ``asset_id`` is what became of it, or None."""
    names = ("id", "key", "user_id", "purpose", "keep_original", "content_type", "bytes", "sha256", "asset_id")
    return {**{name: getattr(row, name) for name in names}, "expires_at": rfc3339(row.expires_at)}


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
