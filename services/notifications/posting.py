"""The post: takes due webhooks to their receivers. Claim, call, record: no transaction is open while it waits."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.notifications import claiming, metrics, outcomes, webhooks
from services.notifications.claiming import Claimed
from services.notifications.courier import Courier, insist
from services.notifications.deliveries import Answer, Decision, GivenUp, decide
from services.notifications.recording import WEBHOOKS_CHANNEL
from shared.config import Settings
from shared.crash import crash_point
from shared.database import Database
from shared.encryption import CannotDecrypt, Cipher
from shared.outside import Outside

log = structlog.get_logger(__name__)

SLOTS = 64
SECRETS = "webhook secrets"


@dataclass(frozen=True, kw_only=True)
class Post:
    """What sending webhooks takes: the guard for addresses, and what opens their secrets."""

    outside: Outside
    cipher: Cipher


def post_for(settings: Settings) -> Post:
    """Return the post of a process with these settings."""
    return Post(
        outside=Outside(allowed=settings.outside_allowed), cipher=Cipher(settings.encryption_keys, purpose=SECRETS)
    )


def run(db: Database, post: Post, stopping: Callable[[], bool], *, slots: int = SLOTS) -> None:
    """Deliver what is due until ``stopping()``."""

    def claim(free: int, held: Sequence[Claimed]) -> list[Claimed]:
        with db.transaction() as session:
            slow_free = max(0, slots // 2 - sum(item.slow for item in held))
            return claiming.claim(session, free=free, slow_free=slow_free)

    Courier(db, channel=WEBHOOKS_CHANNEL, slots=slots, claim=claim, work=lambda item: deliver(db, post, item)).run(
        stopping
    )


def deliver(db: Database, post: Post, item: Claimed) -> None:
    """Send one claimed webhook and record what came of it."""
    crash_point("webhooks.after_claim")
    answer, decision = _sent(post, item)
    log.info(
        "webhook_sent",
        endpoint_id=item.endpoint_id,
        event_id=item.event_id,
        attempt=item.attempt,
        status=answer.status,
        outcome=type(decision).__name__,
    )
    metrics.delivery_seconds.labels("webhook").observe(answer.seconds)
    crash_point("webhooks.after_call")
    insist(lambda: _record(db, item, answer, decision))


def _sent(post: Post, item: Claimed) -> tuple[Answer, Decision]:
    if item.body is None:
        lost = Answer(status=None, seconds=0.0, error="the event is no longer kept", ours=True)
        return lost, GivenUp(failure="the event is no longer kept")
    try:
        signing_secrets = [post.cipher.decrypt(each) for each in item.secrets]
    except CannotDecrypt:
        log.exception("webhook_secret_unreadable", endpoint_id=item.endpoint_id)
        answer = Answer(status=None, seconds=0.0, error="the secret cannot be read on our side", ours=True)
    else:
        answer = webhooks.send(
            post.outside,
            url=item.url,
            message_id=item.event_id,
            body=_numbered(item.body, item.sequence),
            signing_secrets=signing_secrets,
            whose=item.org_id,
        )
    jitter = secrets.SystemRandom().uniform(-1, 1)
    return answer, decide(answer, attempt=item.attempt, now=datetime.now(UTC), jitter=jitter)


def _numbered(body: str, sequence: int | None) -> str:
    """Return the CloudEvent with its number in the log: the same bytes at every attempt."""
    return body if sequence is None else f'{body[:-1]},"orgsequence":{sequence}}}'


def _record(db: Database, item: Claimed, answer: Answer, decision: Decision) -> None:
    with db.transaction() as session:
        db.publish(session, outcomes.record(session, item, answer, decision))
