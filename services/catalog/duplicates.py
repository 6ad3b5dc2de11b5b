"""The same picture sent again: found by its digest among what its organization has sent for the same purpose.

What live keys and test keys send are two collections. A face is never looked for: each has an end, a consent and a
receipt of its own, and the promise about the one would break that about the other.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.catalog import queries
from services.catalog.assets import Upload
from services.catalog.models import Asset

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:org_id || ':' || :sha256, 0))")


def claimed(session: Session, upload: Upload) -> Asset | None:
    """Return the asset that already is this picture; None where there is none.

    Two that arrive at once wait for each other here, until the transaction ends.
    """
    if upload.purpose == "face":
        return None
    session.execute(_LOCK, {"org_id": upload.org_id, "sha256": upload.sha256})
    found = session.scalar(
        sa.select(Asset)
        .where(
            Asset.org_id == upload.org_id,
            Asset.livemode == upload.livemode,
            Asset.sha256 == upload.sha256,
            Asset.purpose == upload.purpose,
            Asset.id != upload.asset_id,
            queries.PRESENT,
        )
        .order_by(Asset.created_at, Asset.id)
        .limit(1)
        .with_for_update()
    )
    if session.get(Asset, upload.asset_id) is not None:  # a repeat of what was recorded by itself
        return None
    return found


def as_dict(row: Asset) -> dict[str, Any]:
    """Return the asset as it was answered first, with the warning that it is not new."""
    known = queries.as_dict(row)
    again = {"code": "duplicate", "detail": "This picture was uploaded before; this is that upload, with its id."}
    return {**known, "warnings": [*known["warnings"], again]}
