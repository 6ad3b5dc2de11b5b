"""Webhook endpoints: made, changed, given another secret, deleted."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications import claiming, receivers, webhooks
from services.notifications.models import WebhookEndpoint
from services.notifications.posting import Post
from shared import events
from shared.database import Database
from shared.notification_limits import DESCRIPTION_MAX, OVERLAP_MAX_SECONDS, OVERLAP_SECONDS
from shared.problems import BadRequest, Conflict, LimitExceeded, PreconditionFailed

log = structlog.get_logger(__name__)

ENDPOINTS_MAX: Final = 20
DROPPED_AT_ONCE: Final = 5_000
_LOCK_ORGANIZATION = sa.text("SELECT pg_advisory_xact_lock(7301021, hashtext(:org_id))")
_DROP_SOME = sa.text("""
WITH dropped AS (
    SELECT id FROM webhook_deliveries WHERE org_id = :org_id AND endpoint_id = :endpoint_id LIMIT :most
)
DELETE FROM webhook_deliveries d USING dropped WHERE d.id = dropped.id
""")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A new endpoint: where it is and which types it gets, all where that is None; ``ordered`` one after another."""

    org_id: str
    endpoint_id: str
    url: str
    types: Sequence[str] | None = None
    description: str | None = None
    ordered: bool = False
    created_by: str | None = None


def create(db: Database, post: Post, wanted: Wanted) -> dict[str, Any]:
    """Make an endpoint and return it as `receivers.as_dict` does, with its ``secret``, which is shown this once.

    The same ``endpoint_id`` again changes nothing and returns the same.

    Raises:
        UrlRefused: the address is none we send to.
        BadRequest: a type does not exist, or the description is too long.
        LimitExceeded: the organization has as many endpoints as it may.
        Conflict: the id is another organization's.
    """
    _check(types=wanted.types, description=wanted.description)
    post.outside.check(wanted.url, whose=wanted.org_id)
    secret = webhooks.new_secret()
    values = {name: value for name, value in dataclasses.asdict(wanted).items() if name != "endpoint_id"}
    row = {**values, "id": wanted.endpoint_id, "types": _listed(wanted.types), "secret": post.cipher.encrypt(secret)}
    with db.transaction(org_id=wanted.org_id) as session:
        session.execute(_LOCK_ORGANIZATION, {"org_id": wanted.org_id})
        known = session.get(WebhookEndpoint, wanted.endpoint_id)
        if known is None:
            _check_room(session, org_id=wanted.org_id)
            known = session.scalar(
                insert(WebhookEndpoint).values(row).on_conflict_do_nothing().returning(WebhookEndpoint)
            )
            log.info("webhook_endpoint_created", endpoint_id=wanted.endpoint_id, org_id=wanted.org_id)
        if known is None:
            raise Conflict("The id of this endpoint is taken.")
        return {**receivers.as_dict(known), "secret": post.cipher.decrypt(known.secret)}


def change(
    db: Database, post: Post, *, org_id: str, endpoint_id: str, version: int | None = None, **changes: Any
) -> dict[str, Any]:
    """Change an endpoint's ``url``, ``types``, ``description``, ``ordered`` or ``status``, and return it.

    Disabling it cancels what is on the way to it; enabling it forgives its failures. What it missed can be replayed.

    Raises:
        NotFound: the organization has no such endpoint.
        PreconditionFailed: its version is no longer ``version``.
        UrlRefused, BadRequest: as `create`; BadRequest also for any other field.
    """
    if unknown := changes.keys() - {"url", "types", "description", "ordered", "status"}:
        raise BadRequest(f"An endpoint has no {', '.join(sorted(unknown))} to change.")
    _check(types=changes.get("types"), description=changes.get("description"), status=changes.get("status"))
    if "url" in changes:
        with db.transaction(org_id=org_id) as session:  # nobody learns of an address by an endpoint they do not have
            receivers.found(session, org_id=org_id, endpoint_id=endpoint_id)
        post.outside.check(changes["url"], whose=org_id)
    with db.transaction(org_id=org_id) as session:
        endpoint = receivers.found(session, org_id=org_id, endpoint_id=endpoint_id, lock=True)
        if version is not None and version != endpoint.version:
            raise PreconditionFailed(
                "The endpoint was changed meanwhile; look at it again.", current=receivers.as_dict(endpoint)
            )
        for name, value in changes.items():
            setattr(endpoint, name, _listed(value) if name == "types" else value)
        endpoint.slow = endpoint.slow or "url" in changes
        if "status" in changes:
            _switch(session, endpoint)
        endpoint.version += 1
        endpoint.updated_at = _now(session)
        session.flush()
        return receivers.as_dict(endpoint)


def delete(db: Database, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
    """Delete an endpoint, with all that is on its way and the list of what was; return what it was.

    Raises:
        NotFound: the organization has no such endpoint.
    """
    with db.transaction(org_id=org_id) as session:
        endpoint = receivers.found(session, org_id=org_id, endpoint_id=endpoint_id, lock=True)
        was = receivers.as_dict(endpoint)
        endpoint.status, endpoint.disabled_reason = "disabled", endpoint.disabled_reason or "requested"
    # Of a backlog of any size: whoever runs out of time over it goes on with the next call.
    dropped = DROPPED_AT_ONCE
    while dropped == DROPPED_AT_ONCE:
        with db.transaction(org_id=org_id) as session:
            values = {"org_id": org_id, "endpoint_id": endpoint_id, "most": DROPPED_AT_ONCE}
            result: Any = session.execute(_DROP_SOME, values)
            dropped = result.rowcount
    with db.transaction(org_id=org_id) as session:
        session.delete(receivers.found(session, org_id=org_id, endpoint_id=endpoint_id, lock=True))
        log.info("webhook_endpoint_deleted", endpoint_id=endpoint_id, org_id=org_id)
    return was


def rotate(
    db: Database,
    post: Post,
    *,
    org_id: str,
    endpoint_id: str,
    secret: str | None = None,
    overlap_seconds: int = OVERLAP_SECONDS,
) -> dict[str, Any]:
    """Give an endpoint another secret and return it, shown this once; for the overlap the old one signs too.

    ``secret`` is the one that this rotation makes, a random one unless given; where the endpoint has it already,
    nothing changes.

    Raises:
        NotFound: the organization has no such endpoint.
        BadRequest: the overlap is not 0 to 7 days.
        Conflict: the endpoint had that secret before the one it has now.
    """
    if not 0 <= overlap_seconds <= OVERLAP_MAX_SECONDS:
        raise BadRequest(f"The old secret may go on for 0 to {OVERLAP_MAX_SECONDS} seconds.")
    wanted = secret or webhooks.new_secret()
    with db.transaction(org_id=org_id) as session:
        endpoint = receivers.found(session, org_id=org_id, endpoint_id=endpoint_id, lock=True)
        if post.cipher.decrypt(endpoint.secret) == wanted:
            return {**receivers.as_dict(endpoint), "secret": wanted}
        if endpoint.previous_secret and post.cipher.decrypt(endpoint.previous_secret) == wanted:
            raise Conflict("The secret of this endpoint was changed again meanwhile.")
        now = _now(session)
        endpoint.previous_secret = endpoint.secret
        endpoint.previous_until = now + timedelta(seconds=overlap_seconds)
        endpoint.secret = post.cipher.encrypt(wanted)
        endpoint.version += 1
        endpoint.updated_at = now
        session.flush()
        log.info("webhook_secret_rotated", endpoint_id=endpoint_id, org_id=org_id)
        return {**receivers.as_dict(endpoint), "secret": wanted}


def _now(session: Session) -> datetime:
    moment: datetime = session.execute(sa.select(sa.func.now())).scalar_one()
    return moment


def _switch(session: Session, endpoint: WebhookEndpoint) -> None:
    if endpoint.status == "enabled":
        endpoint.disabled_reason = endpoint.failing_since = endpoint.paused_until = None
        endpoint.slow = True  # until it has shown otherwise
    else:
        endpoint.disabled_reason = endpoint.disabled_reason or "requested"
        session.flush()
        claiming.cancel_for_disabled(session, endpoint_id=endpoint.id)


def _check_room(session: Session, *, org_id: str) -> None:
    count = session.scalar(sa.select(sa.func.count()).where(WebhookEndpoint.org_id == org_id)) or 0
    if count >= ENDPOINTS_MAX:
        raise LimitExceeded(
            f"An organization has at most {ENDPOINTS_MAX} webhook endpoints; delete one first.",
            limit=ENDPOINTS_MAX,
            excess=count + 1 - ENDPOINTS_MAX,
        )


def _check(*, types: Sequence[str] | None, description: str | None, status: str | None = None) -> None:
    known = {cls.__name__ for cls in events.logged()}
    if types is not None and (not types or set(types) - known):
        unknown = ", ".join(sorted(set(types) - known)[:5]) or "none at all"
        raise BadRequest(f"No events of these types exist: {unknown}. Leave types out to get all of them.")
    if description is not None and (len(description) > DESCRIPTION_MAX or "\x00" in description):
        raise BadRequest(f"A description has at most {DESCRIPTION_MAX} characters.")
    if status not in {None, "enabled", "disabled"}:
        raise BadRequest("The status of an endpoint is enabled or disabled.")


def _listed(types: Sequence[str] | None) -> list[str] | None:
    return None if types is None else sorted(set(types))
