"""Deliveries that somebody asks for: a test, or events of the log once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import log as event_log
from services.notifications import receivers
from services.notifications.models import RecordedEvent, WebhookDelivery, WebhookEndpoint
from services.notifications.recording import WEBHOOKS_CHANNEL
from shared.database import Database
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, LimitExceeded, NotFound
from shared.times import rfc3339

log = structlog.get_logger(__name__)

REPLAYED_MAX: Final = 10_000
TEST_TYPE: Final = "WebhookTest"
_COUNTED_MAX: Final = 100_000
_WAITING = sa.text("""
SELECT count(*) FROM (
    SELECT FROM webhook_deliveries WHERE endpoint_id = :endpoint_id AND status = 'pending' LIMIT :most
) AS waiting
""")


@dataclass(frozen=True, kw_only=True)
class Range:
    """Which events of the log to send again: one by its id, or those after a cursor up to another."""

    event_id: str | None = None
    after: str | None = None
    until: str | None = None


def test(db: Database, *, org_id: str, endpoint_id: str) -> dict[str, Any]:
    """Send an event of the type `WebhookTest`, which is in no log, to an endpoint; return its delivery.

    Raises:
        NotFound: the organization has no such endpoint.
        Conflict: it is disabled.
        LimitExceeded: too much is on its way to it already.
    """
    with db.transaction(org_id=org_id) as session:
        _lock_enabled(session, org_id=org_id, endpoint_id=endpoint_id)
        _check_waiting(session, endpoint_id=endpoint_id, more=1)
        event = {
            "specversion": "1.0",
            "id": new_id("evt"),
            "source": "/darkroom/notifications",
            "type": TEST_TYPE,
            "subject": endpoint_id,
            "time": rfc3339(_now(session), precision="microseconds"),
            "datacontenttype": "application/json",
            "orgid": org_id,
            "data": {"endpoint_id": endpoint_id, "message": "If you can read this, your endpoint works."},
        }
        owed = WebhookDelivery(
            org_id=org_id,
            endpoint_id=endpoint_id,
            event_id=event["id"],
            type=TEST_TYPE,
            body=msgspec.json.encode(event).decode(),
            cause="test",
        )
        session.add(owed)
        session.flush()
        session.refresh(owed)
        db.notify(session, WEBHOOKS_CHANNEL)
        return receivers.delivery_as_dict(owed, [])


def replay(db: Database, *, org_id: str, endpoint_id: str, chosen: Range) -> dict[str, Any]:
    """Send events of the log to an endpoint once more, under their ids; return ``{endpoint_id, replayed}``.

    Only types that the endpoint gets are sent. One who calls this twice sends twice: receivers go by the id.

    Raises:
        NotFound: there is no such endpoint, or no such event any more.
        Conflict: the endpoint is disabled.
        BadRequest: neither an event nor where to begin is named, or a cursor is none.
        LimitExceeded: these are too many at once, or with what is on its way already.
    """
    if (chosen.event_id is None) == (chosen.after is None):
        raise BadRequest(
            "Name one event by event_id, or those after a cursor with after, and until where it should end."
        )
    with db.transaction(org_id=org_id) as session:
        # Counted before anything is locked, and not to the end of a long log.
        wanted = _wanted(receivers.found(session, org_id=org_id, endpoint_id=endpoint_id), chosen)
        known = sa.select(RecordedEvent.sequence).where(*wanted).limit(_COUNTED_MAX).subquery()
        count = session.scalar(sa.select(sa.func.count()).select_from(known)) or 0
        if chosen.event_id and not count:
            raise NotFound("There is no such event in the log, or not of a type this endpoint gets.")
        if count > REPLAYED_MAX:
            raise LimitExceeded(
                f"At most {REPLAYED_MAX} events are replayed at once.", limit=REPLAYED_MAX, excess=count - REPLAYED_MAX
            )
        _lock_enabled(session, org_id=org_id, endpoint_id=endpoint_id)
        _check_waiting(session, endpoint_id=endpoint_id, more=count)
        added: Any = session.execute(_owed_again(endpoint_id, wanted, most=count))
        db.notify(session, WEBHOOKS_CHANNEL)
        log.info("webhooks_replayed", endpoint_id=endpoint_id, org_id=org_id, count=added.rowcount)
        return {"endpoint_id": endpoint_id, "replayed": added.rowcount}


def _check_waiting(session: Session, *, endpoint_id: str, more: int) -> None:
    """Refuse what would let ever more wait for a receiver: of what is asked for, events that happen come on top.

    The endpoint is locked, so that no two count the same.
    """
    waiting = session.scalar(_WAITING, {"endpoint_id": endpoint_id, "most": REPLAYED_MAX}) or 0
    if waiting + more > REPLAYED_MAX:
        raise LimitExceeded(
            f"{waiting} deliveries are on their way to this endpoint, and {REPLAYED_MAX} may be; ask again later.",
            limit=REPLAYED_MAX,
            excess=waiting + more - REPLAYED_MAX,
        )


def _wanted(endpoint: WebhookEndpoint, chosen: Range) -> list[sa.ColumnElement[bool]]:
    conditions = [RecordedEvent.org_id == endpoint.org_id]
    if endpoint.types is not None:
        conditions.append(RecordedEvent.type.in_(endpoint.types))
    if chosen.event_id is not None:
        return [*conditions, RecordedEvent.event_id == chosen.event_id]
    conditions.append(RecordedEvent.sequence > event_log.cursor_of(chosen.after or "0"))
    if chosen.until is not None:
        conditions.append(RecordedEvent.sequence <= event_log.cursor_of(chosen.until))
    return conditions


def _owed_again(endpoint_id: str, wanted: Sequence[sa.ColumnElement[bool]], *, most: int) -> sa.Insert:
    event = RecordedEvent
    again = (
        sa.select(
            event.org_id, sa.literal(endpoint_id), event.event_id, event.type, event.sequence, sa.literal("replay")
        )
        .where(*wanted)
        .order_by(event.sequence)
        .limit(most)
    )
    columns = ["org_id", "endpoint_id", "event_id", "type", "sequence", "cause"]
    return sa.insert(WebhookDelivery).from_select(columns, again)


def _lock_enabled(session: Session, *, org_id: str, endpoint_id: str) -> None:
    endpoint = receivers.found(session, org_id=org_id, endpoint_id=endpoint_id, lock=True)
    if endpoint.status != "enabled":
        raise Conflict("The endpoint is disabled, so that nothing is sent to it. Enable it first.")


def _now(session: Session) -> datetime:
    moment: datetime = session.execute(sa.select(sa.func.now())).scalar_one()
    return moment
