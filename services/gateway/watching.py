"""Ending the streams whose credentials have ended: what is asked of every request once, is asked of a stream again."""

import time
from collections.abc import Collection
from typing import Final

import structlog

from services.gateway import identities, queries, sessions
from services.gateway.identity_provider import IdentityProvider
from services.gateway.streams import OpenStream, Streams
from shared.database import Database

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 2.0
UNKNOWN_SECONDS: Final = 30.0


class Watch:
    """Looks after the streams of one process, and remembers when it last knew whose credentials are good."""

    def __init__(self) -> None:
        self._checked = time.monotonic()

    def look(self, db: Database, open_ones: Streams, provider: IdentityProvider | None = None) -> None:
        """End the streams whose credentials were revoked, have expired, or are of members who are none any more.

        Those that were ended a look ago, and have not taken what was begun, are cut off; those whose clients have hung
        up are closed. Where nobody can tell for 30 s which are good, all are ended: who comes back is asked as
        everybody is.
        """
        open_ones.cut_off()
        open_ones.let_go(open_ones.all())
        streams = open_ones.all()
        try:
            gone = _gone(db, streams) if streams else []
        except Exception:
            if time.monotonic() - self._checked > UNKNOWN_SECONDS:
                open_ones.end(streams, reason="unknown_credential")
            raise
        self._checked = time.monotonic()
        open_ones.end(gone, reason="credential_ended")
        if provider:  # after all others: a key that nobody lists any more is waited for, in case that is news
            open_ones.end(_unlisted(provider, open_ones.all()), reason="credential_ended")


def _gone(db: Database, streams: Collection[OpenStream]) -> list[OpenStream]:
    """Return the streams whose credentials are good no longer, by three queries for however many."""
    askers = [stream.wanted.asker for stream in streams]
    key_ids = {asker.id for asker in askers if asker.kind == "key"}
    session_ids = {asker.session_id for asker in askers if asker.session_id}
    claimed = {stream.wanted.claimed for stream in streams if stream.wanted.claimed}
    with db.transaction() as session:
        keys = set(session.scalars(queries.usable_keys(key_ids))) if key_ids else set()
        logins = set(session.scalars(sessions.usable(session_ids))) if session_ids else set()
        members = identities.members_of(session, claimed) if claimed else {}
    now = time.time()

    def is_good(stream: OpenStream) -> bool:
        asker, token = stream.wanted.asker, stream.wanted.claimed
        if asker.kind == "key":
            return asker.id in keys
        if asker.session_id:
            return asker.session_id in logins
        # The same token is somebody else's once its bearer was removed here and has joined elsewhere.
        return (
            token is not None
            and now < token.ends_at
            and members.get((token.issuer, token.subject)) == (asker.org_id, asker.user_id)
        )

    return [stream for stream in streams if not is_good(stream)]


def _unlisted(provider: IdentityProvider, streams: Collection[OpenStream]) -> list[OpenStream]:
    """Return the streams whose tokens are signed with keys that the issuer does not list any more."""
    signed = [(stream, stream.wanted.claimed.key_id) for stream in streams if stream.wanted.claimed]
    unlisted = {key_id for key_id in {key_id for _, key_id in signed} if not provider.lists(key_id)}
    return [stream for stream, key_id in signed if key_id in unlisted]
