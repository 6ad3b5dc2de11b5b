"""Reads of the gateway's own tables, as plain values."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.gateway.flags import switched_of
from services.gateway.models import ApiKey, Member, Organization
from services.gateway.permissions import OWNER
from shared.http import Principal
from shared.problems import Forbidden, NotFound

_successor = sa.orm.aliased(ApiKey)
_USABLE = sa.and_(
    ApiKey.revoked_at.is_(None),
    sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > sa.func.now()),
)

_USED = sa.text(
    "UPDATE api_keys SET last_used_at = now()"
    " WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')"
)


def key_by_hash(session: Session, *, secret_sha256: str) -> dict[str, Any] | None:
    """Return what the principal of a usable key is made of; None where there is none.

    ``role`` is its member's, ``switched`` as `flags.switched_of` has it; ``replaced`` says that the key ends only since
    an endless one took its place. Only a session of the system sees it: whose it is, is what is being asked.
    """
    row = session.execute(
        sa.select(
            *(ApiKey.id, ApiKey.name, ApiKey.org_id, ApiKey.user_id, ApiKey.livemode),
            *(ApiKey.scopes, ApiKey.workflows, ApiKey.daily_cap, ApiKey.cap_id, ApiKey.expires_at, Member.role),
            switched_of(ApiKey.org_id),
            sa.exists()
            .where(
                _successor.org_id == ApiKey.org_id,
                _successor.rotated_from == ApiKey.id,
                _successor.expires_at.is_(None),
            )
            .label("replaced"),
        )
        .join(Member, sa.and_(Member.org_id == ApiKey.org_id, Member.id == ApiKey.user_id))
        .where(ApiKey.secret_sha256 == secret_sha256, _USABLE, Member.status != "removed")
    ).one_or_none()
    return dict(row._mapping) if row else None  # noqa: SLF001  the documented way to a row's names


def usable_keys(key_ids: Collection[str]) -> sa.Select[str]:
    """Return the query for the ids of those keys that can be used still, by members who are some."""
    return (
        sa.select(ApiKey.id)
        .join(Member, sa.and_(Member.org_id == ApiKey.org_id, Member.id == ApiKey.user_id))
        .where(ApiKey.id.in_(key_ids), _USABLE, Member.status != "removed")
    )


def note_key_used(session: Session, *, key_id: str) -> None:
    """Write that a key was used just now, at most once a minute."""
    session.execute(_USED, {"id": key_id})


def owner_names(session: Session, asker: Principal) -> tuple[str, str | None]:
    """Return what to call the owner who asks: the member's name, else the address, else the name of the key.

    The second is the same without an address, for what others than the one who is invited may read.

    Raises:
        Forbidden: the asker was an owner a moment ago, and is none any more.
    """
    row = session.execute(
        sa.select(Member.name, Member.email).where(
            Member.org_id == asker.org_id,
            Member.id == asker.user_id,
            Member.role == OWNER,
            Member.status != "removed",
        )
    ).one_or_none()
    if row is None:
        raise Forbidden("This is for owners, and you are none any more.")
    public = row.name or (None if row.email else asker.name)
    return public or row.email, public


def owner(session: Session, *, org_id: str) -> dict[str, Any]:
    """Return ``{owner_id, owner_email}`` of the first owner of an organization."""
    row = session.execute(
        sa.select(Member.id.label("owner_id"), Member.email.label("owner_email"))
        .where(Member.org_id == org_id, Member.role == OWNER)
        .order_by(Member.id)
        .limit(1)
    ).one()
    return dict(row._mapping)  # noqa: SLF001  as above


def require_organization(session: Session, *, org_id: str) -> None:
    """Refuse the id of an organization that is none.

    Raises:
        NotFound: there is no such organization.
    """
    if session.get(Organization, org_id) is None:
        raise NotFound("There is no such organization.")
