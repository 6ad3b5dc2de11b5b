"""The same picture sent again: found by its digest among what its organization keeps for the same purpose as long.

What live keys and test keys send are two collections.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.catalog import assets, queries
from services.catalog.assets import Upload
from services.catalog.models import Asset

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:org_id || ':' || :sha256, 0))")


def claimed(session: Session, upload: Upload) -> Asset | None:
    """Return the asset that already is this picture, kept for as long as a new one would be; None where there is none.

    A picture that is deleted after a while and one that stays are never taken for one another: the promise about the
    one would break that about the other. Two that arrive at once wait for each other here, until the transaction ends.
    """
    session.execute(_LOCK, {"org_id": upload.org_id, "sha256": upload.sha256})
    kept_for = assets.kept_for(upload.purpose, keep_original=upload.keep_original)
    found = session.scalar(
        sa.select(Asset)
        .where(
            Asset.org_id == upload.org_id,
            Asset.livemode == upload.livemode,
            Asset.sha256 == upload.sha256,
            Asset.purpose == upload.purpose,
            Asset.delete_after.is_not(None) if kept_for else Asset.delete_after.is_(None),
            Asset.id != upload.asset_id,
            queries.PRESENT,
        )
        .order_by(Asset.created_at, Asset.id)
        .limit(1)
        .with_for_update()
    )
    if found is None or session.get(Asset, upload.asset_id) is not None:  # a repeat of what was recorded by itself
        return None
    if kept_for:
        return session.scalar(
            sa.update(Asset)
            .where(Asset.id == found.id)
            .values(delete_after=sa.func.now() + kept_for)
            .returning(Asset)
            .execution_options(populate_existing=True)
        )
    return found


def as_dict(row: Asset) -> dict[str, Any]:
    """Return the asset as it was answered first, with the warning that it is not new."""
    known = queries.as_dict(row)
    again = {"code": "duplicate", "detail": "This picture was uploaded before; this is that upload, with its id."}
    return {**known, "warnings": [*known["warnings"], again]}
