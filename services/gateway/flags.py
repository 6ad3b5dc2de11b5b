"""Feature flags: routes that can be switched for one organization; where one is off, its routes are not there."""

from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.gateway.models import Organization, OrganizationFlag
from shared.database import Database
from shared.http import FeatureFlag, Request
from shared.problems import NotFound

log = structlog.get_logger(__name__)

DEFAULTS: Final = {"csv_export": True, "usage_report": True}
"""Every flag there is, and whether it is on for an organization that nobody has switched it for."""


def flag(name: str) -> FeatureFlag:
    """Return the flag for a route's declaration."""
    default = DEFAULTS[name]

    def is_on(service: Any, request: Request) -> bool:
        with service.db.transaction(org_id=request.org_id) as session:
            return _switched(session, org_id=request.org_id).get(name, default)

    return FeatureFlag(name=name, is_on=is_on)


def flags_of(db: Database, *, org_id: str) -> list[dict[str, Any]]:
    """Return ``{name, enabled, default}`` of every flag, by name.

    Raises:
        NotFound: there is no such organization.
    """
    with db.transaction() as session:
        _require(session, org_id=org_id)
        switched = _switched(session, org_id=org_id)
    return [
        {"name": name, "enabled": switched.get(name, default), "default": default}
        for name, default in sorted(DEFAULTS.items())
    ]


def switch(db: Database, *, org_id: str, name: str, enabled: bool | None, actor: str) -> None:
    """Switch a flag for an organization, or with None leave it to the default; it counts from the next request on.

    Raises:
        NotFound: there is no such organization.
    """
    with db.transaction() as session:
        _require(session, org_id=org_id)
        if enabled is None:
            session.execute(
                sa.delete(OrganizationFlag).where(OrganizationFlag.org_id == org_id, OrganizationFlag.name == name)
            )
        else:
            row = insert(OrganizationFlag).values(org_id=org_id, name=name, enabled=enabled, changed_by=actor)
            changed = {"enabled": enabled, "changed_by": actor, "changed_at": sa.func.now()}
            session.execute(row.on_conflict_do_update(index_elements=["org_id", "name"], set_=changed))
    log.info("feature_flag_switched", org_id=org_id, flag=name, enabled=enabled, actor=actor)


def _switched(session: Session, *, org_id: str) -> dict[str, bool]:
    rows = session.execute(
        sa.select(OrganizationFlag.name, OrganizationFlag.enabled).where(OrganizationFlag.org_id == org_id)
    )
    return {row.name: row.enabled for row in rows}


def _require(session: Session, *, org_id: str) -> None:
    if session.get(Organization, org_id) is None:
        raise NotFound("There is no such organization.")
