"""Ending the streams whose credentials have ended: what is asked of every request once, is asked of a stream again."""

import time
from typing import Any, Final

import structlog

from services.gateway import queries, sessions
from services.gateway.streams import OpenStream, Streams, credentials_of
from shared.database import Database
from shared.problems import Problem, Unavailable

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 2.0
UNKNOWN_SECONDS: Final = 30.0


class Watch:
    """Looks after the streams of one process, and remembers when it last knew whose credentials are good."""

    def __init__(self) -> None:
        self._checked = time.monotonic()

    def look(self, db: Database, open_ones: Streams) -> None:
        """End the streams whose credentials were revoked, have expired, or are of members who are none any more.

        Where that cannot be known for 30 s, all are ended: who comes back is asked as everybody is.
        """
        streams = open_ones.all()
        try:
            gone = _gone(db, streams) if streams else []
        except Exception:
            if time.monotonic() - self._checked > UNKNOWN_SECONDS:
                open_ones.end(streams, reason="unknown_credential")
            raise
        self._checked = time.monotonic()
        open_ones.end(gone, reason="credential_ended")


def _gone(db: Database, streams: list[OpenStream]) -> list[OpenStream]:
    asked = credentials_of(streams)
    with db.transaction() as session:
        good = {
            "key": set(session.scalars(queries.usable_keys(asked["key"]))) if asked["key"] else set(),
            "session": set(session.scalars(sessions.usable(asked["session"]))) if asked["session"] else set(),
        }
    return [stream for stream in streams if not _is_good(stream, good)]


def _is_good(stream: OpenStream, good: dict[str, set[Any]]) -> bool:
    asker = stream.wanted.asker
    if asker.kind == "key":
        return asker.id in good["key"]
    if asker.session_id:
        return asker.session_id in good["session"]
    if stream.wanted.recheck is None:
        return True
    try:
        found = stream.wanted.recheck()
    except Unavailable:
        return True  # the issuer does not answer; its keys are known for a while, and the token ends by itself
    except Problem:
        return False
    # The same token is somebody else's once its bearer was removed here and has joined elsewhere.
    return (found.org_id, found.user_id) == (asker.org_id, asker.user_id)
