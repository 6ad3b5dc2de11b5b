"""Telling operators: alarms become incidents, and a new one is mailed and posted to where the settings say.

The webhook is signed and repeated as those of customers are, and apart from them: neither can hold the other up.
"""

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy.orm import Session

from services.notifications import alarms, incidents, metrics, webhooks
from services.notifications.alarms import Alarm, AllClear
from services.notifications.courier import Courier, insist
from services.notifications.deliveries import Decision, Delivered, GivenUp, Postponed, decide
from services.notifications.incidents import ALERTS_CHANNEL
from services.notifications.leases import Leases
from shared.config import ConfigurationError, Settings
from shared.database import Database, once_committed
from shared.events import Event
from shared.outside import Outside
from shared.outside_urls import UrlRefused, target_of
from shared.times import rfc3339

log = structlog.get_logger(__name__)

SLOTS: Final = 2
LEASE_SECONDS: Final = 60.0
SECRET_BYTES_MIN: Final = 24
TYPE: Final = "OperatorAlert"
_leases = Leases("incidents", columns=("kind", "text", "remedy", "since", "created_at"), ends=False)


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Whom operators' alerts go to: addresses, and a receiver of webhooks or None."""

    emails: Sequence[str]
    url: str | None
    secret: str
    outside: Outside


@dataclass(frozen=True, kw_only=True)
class ClaimedAlert:
    """An incident that this worker tells the receiver of until its lease ends; ``fence`` proves it."""

    id: str
    kind: str
    text: str
    remedy: str
    since: datetime
    created_at: datetime
    attempt: int
    fence: int


def alerts_for(settings: Settings) -> Alerts:
    """Return where the alerts of a process with these settings go.

    Raises:
        ConfigurationError: there is an address without a secret, or one of them cannot be read.
    """
    if settings.alert_webhook_url:
        _check(settings.alert_webhook_url, settings.alert_webhook_secret)
    return Alerts(
        emails=settings.alert_emails,
        url=settings.alert_webhook_url or None,
        secret=settings.alert_webhook_secret,
        outside=Outside(anywhere=True),  # an operator has set it, and it may well be inside
    )


def hear(db: Database, alerts: Alerts, session: Session, items: Sequence[Event]) -> list[Event]:
    """Let events open and close incidents."""
    for item in items:
        note(db, alerts, session, alarms.alarm_of(item, now=datetime.now(UTC)))
    return []


def note(db: Database, alerts: Alerts, session: Session, said: Alarm | AllClear | None) -> None:
    """Let an alarm open an incident, or an all-clear close one."""
    match said:
        case Alarm():
            incidents.raise_alarm(db, session, said, emails=alerts.emails, by_webhook=alerts.url is not None)
        case AllClear():
            incidents.all_clear(session, said)


def look_at_dead_letters(db: Database, alerts: Alerts, counts: Mapping[str, int]) -> None:
    """Let the numbers of messages that lie aside, by service, open and close incidents."""
    now = datetime.now(UTC)
    lying = [alarms.of_dead_letters(service, count, now=now) for service, count in counts.items() if count]
    clear = [f"{alarms.DEAD_LETTERS}/{service}" for service, count in counts.items() if not count]
    with db.transaction() as session:
        incidents.close_all(session, kind=alarms.DEAD_LETTERS, keys=clear)
        for alarm in sorted(lying, key=lambda each: each.key):
            note(db, alerts, session, alarm)


def report_failed_sign_ups(db: Database, alerts: Alerts, *, count: int, error: str, since: str) -> dict[str, Any]:
    """Take note that people could not sign up; return ``{reported}``.

    Args:
        db: the database.
        alerts: whom to tell.
        count: how many times it failed.
        error: the kind of the last error.
        since: when it failed first, an RFC 3339 time.
    """
    with db.transaction() as session:
        note(db, alerts, session, alarms.of_sign_ups(count, error=error, since=datetime.fromisoformat(since)))
    return {"reported": count}


def run(db: Database, alerts: Alerts, stopping: Callable[[], bool]) -> None:
    """Post what is due until ``stopping()``."""

    def claim(free: int, _held: Sequence[ClaimedAlert]) -> list[ClaimedAlert]:
        if alerts.url is None:
            return []
        with db.transaction() as session:
            return [ClaimedAlert(**row) for row in _leases.claim(session, free=free, seconds=LEASE_SECONDS)]

    Courier(db, channel=ALERTS_CHANNEL, slots=SLOTS, claim=claim, work=lambda item: post(db, alerts, item)).run(
        stopping
    )


def post(db: Database, alerts: Alerts, item: ClaimedAlert) -> None:
    """Post one incident, and record what came of it."""
    answer = webhooks.send(
        alerts.outside,
        url=alerts.url or "",
        message_id=item.id,
        body=msgspec.json.encode(_event(item)).decode(),
        signing_secrets=[alerts.secret],
    )
    jitter = secrets.SystemRandom().uniform(-1, 1)
    decision = decide(answer, attempt=item.attempt, now=datetime.now(UTC), jitter=jitter)
    log.info(
        "alert_posted",
        incident_id=item.id,
        attempt=item.attempt,
        status=answer.status,
        outcome=type(decision).__name__,
    )
    insist(lambda: _record(db, item, decision))


def _check(url: str, secret: str) -> None:
    try:
        target_of(url)  # its name is looked up when something is sent: name servers that are away stop no start
    except UrlRefused as error:
        raise ConfigurationError(f"ALERT_WEBHOOK_URL: {error.detail}") from error
    try:
        known = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        known = b""
    if not secret.startswith("whsec_") or len(known) < SECRET_BYTES_MIN:
        raise ConfigurationError(
            f"ALERT_WEBHOOK_SECRET: write whsec_ and at least {SECRET_BYTES_MIN} bytes in base64, the receiver's"
        )


def _event(item: ClaimedAlert) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": item.id,
        "source": "/darkroom/notifications",
        "type": TYPE,
        "subject": item.kind,
        "time": rfc3339(item.created_at, precision="microseconds"),
        "datacontenttype": "application/json",
        "data": {"kind": item.kind, "text": item.text, "remedy": item.remedy, "since": rfc3339(item.since)},
    }


def _record(db: Database, item: ClaimedAlert, decision: Decision) -> None:
    status, label = {
        Delivered: ("sent", "delivered"),
        GivenUp: ("failed", "failed"),
    }.get(type(decision), ("pending", "retried"))
    with db.transaction() as session:
        settled = _leases.settle(
            session,
            id=item.id,
            fence=item.fence,
            status=status,
            failure=getattr(decision, "failure", None),
            seconds=getattr(decision, "seconds", 0.0),
            unused=isinstance(decision, Postponed),
        )
        if settled:
            once_committed(session, lambda: metrics.deliveries.labels("alert", label).inc())
