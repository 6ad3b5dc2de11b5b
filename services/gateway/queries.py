"""Reads of the gateway's own tables, as plain values."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.gateway.models import ApiKey, Member

_USABLE = sa.and_(
    ApiKey.revoked_at.is_(None),
    sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > sa.func.now()),
)


def key_by_hash(session: Session, *, secret_sha256: str) -> dict[str, Any] | None:
    """Return ``{id, name, org_id, user_id, livemode, secret_sha256}`` of a key that may be used, or None.

    Only a session of the system sees it: whose it is, is what is being asked.
    """
    row = session.execute(
        sa.select(ApiKey.id, ApiKey.name, ApiKey.org_id, ApiKey.user_id, ApiKey.livemode, ApiKey.secret_sha256).where(
            ApiKey.secret_sha256 == secret_sha256, _USABLE
        )
    ).one_or_none()
    return dict(row._mapping) if row else None  # noqa: SLF001  the documented way to a row's names


def owner(session: Session, *, org_id: str) -> dict[str, Any]:
    """Return ``{owner_id, owner_email}`` of the first owner of an organization."""
    row = session.execute(
        sa.select(Member.id.label("owner_id"), Member.email.label("owner_email"))
        .where(Member.org_id == org_id, Member.role == "owner")
        .order_by(Member.id)
        .limit(1)
    ).one()
    return dict(row._mapping)  # noqa: SLF001  as above
