"""Steps of the tests of webhooks: endpoints, the post at work, and time that passes in the database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from services.notifications import endpoints, posting, receivers, recording
from services.notifications.posting import Post
from shared.database import Database
from shared.encryption import Cipher
from shared.events import Event
from shared.ids import new_id
from shared.outside import Outside
from tests.service.notifications.told import batch

CIPHER = Cipher("e" * 40, purpose=posting.SECRETS)


def a_post(*allowed: str, **options: Any) -> Post:
    """Return a post that may also go to ``allowed`` places."""
    return Post(outside=Outside(allowed=allowed, **options), cipher=CIPHER)


def an_endpoint(db: Database, post: Post, url: str, *, org_id: str, **wanted: Any) -> dict[str, Any]:
    wanted = {"endpoint_id": new_id("whe"), **wanted}
    return endpoints.create(db, post, endpoints.Wanted(org_id=org_id, url=url, **wanted))


def tell(db: Database, *items: Event) -> None:
    """Let events come to the log."""
    db.once(batch(*items), partial(recording.record, db))


@contextmanager
def posting_on(db: Database, post: Post, *, workers: int = 1, slots: int = posting.SLOTS) -> Iterator[None]:
    """Let the post work until the block ends."""
    stopped = threading.Event()
    threads = [
        threading.Thread(target=posting.run, args=(db, post, stopped.is_set), kwargs={"slots": slots})
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def deliveries(db: Database, endpoint: dict[str, Any], *, org_id: str, **asked: Any) -> list[dict[str, Any]]:
    with db.transaction(org_id=org_id) as session:
        page = receivers.deliveries(session, org_id=org_id, endpoint_id=endpoint["id"], limit=200, **asked)
    found: list[dict[str, Any]] = page["data"]
    return found


def endpoint_now(db: Database, endpoint: dict[str, Any], *, org_id: str) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return receivers.endpoint(session, org_id=org_id, endpoint_id=endpoint["id"])


def pass_time(tamper: Callable[..., None], seconds: float) -> None:
    """Let so much time pass for every delivery that waits and every endpoint, though not for what is under way."""
    ago = f"make_interval(secs => {seconds})"
    tamper(
        f"UPDATE webhook_endpoints SET failing_since = failing_since - {ago}, paused_until = paused_until - {ago},"
        f" previous_until = previous_until - {ago}",
        f"UPDATE webhook_deliveries SET due_at = due_at - {ago} WHERE lease_until IS NULL",
    )


def end_leases(tamper: Callable[..., None]) -> None:
    """Let the claims of workers that died run out."""
    tamper("UPDATE webhook_deliveries SET lease_until = now() WHERE lease_until IS NOT NULL")
