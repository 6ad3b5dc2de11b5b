"""Changing what somebody wants to be told: in the settings, or by the link in a mail."""

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications import letters, mailing, preferences
from services.notifications.mailing import NewMail
from services.notifications.models import Mail, Person, Preference
from shared import tokens
from shared.database import Database
from shared.problems import PreconditionFailed, UnsubscribeInvalid

log = structlog.get_logger(__name__)


def change(
    db: Database, *, org_id: str, user_id: str, change: Mapping[str, Any], version: int | None = None
) -> dict[str, Any]:
    """Change somebody's preferences and return them as `preferences.one` does; whoever changed any is told by mail.

    What is not named stays as it is. The same change again changes nothing, and tells nobody.

    Raises:
        BadRequest: these are no preferences.
        PreconditionFailed: their version is no longer ``version``.
    """
    with db.transaction(org_id=org_id) as session:
        known = _locked(session, org_id=org_id, user_id=user_id)
        before = preferences.with_defaults(known.chosen if known else {})
        seen = {**before, "version": known.version if known else 0}
        if version is not None and version != seen["version"]:
            raise PreconditionFailed("The preferences were changed meanwhile; look at them again.", current=seen)
        wanted = preferences.changed(before, change)
        if wanted == before:
            return seen
        kept = _keep(session, wanted, org_id=org_id, user_id=user_id)
        if version is not None and kept != version + 1:  # the first choice of all has no row that could be locked
            raise PreconditionFailed("The preferences were changed meanwhile; look at them again.")
        email = session.scalar(sa.select(Person.email).where(Person.org_id == org_id, Person.user_id == user_id))
        if email:
            mailing.add(db, session, [_told(org_id, user_id, email=email, version=kept, wanted=wanted)])
        log.info("preferences_changed", org_id=org_id, user_id=user_id, version=kept)
        return {**wanted, "version": kept}


def unsubscribe(db: Database, *, token: str, secret: str, now: float | None = None) -> dict[str, Any]:
    """Switch off what a link's token came with, also what has not left yet; doing so again changes nothing.

    Returns:
        ``{kinds}``: what is off now.

    Raises:
        UnsubscribeInvalid: the token is good for nothing (any more).
    """
    try:
        mail_id = tokens.read(token, secret=secret, purpose=tokens.UNSUBSCRIBE, now=time.time() if now is None else now)
    except (tokens.TokenForged, tokens.TokenExpired):
        raise UnsubscribeInvalid("This link is not valid any more.") from None
    with db.transaction() as session:
        mail = session.get(Mail, mail_id)
        if mail is None or mail.user_id is None:
            raise UnsubscribeInvalid("This link is not valid any more.")
        choices = letters.OPTIONAL[mail.kind]
        known = _locked(session, org_id=mail.org_id, user_id=mail.user_id)
        wanted = preferences.with_defaults(known.chosen if known else {})
        for channel, name in choices:
            wanted[channel][name] = False
        _keep(session, wanted, org_id=mail.org_id, user_id=mail.user_id)
        log.info("unsubscribed", org_id=mail.org_id, user_id=mail.user_id, kind=mail.kind)
        return {"kinds": [name for _, name in choices]}


def _locked(session: Session, *, org_id: str, user_id: str) -> Preference | None:
    """Return somebody's row, locked, if there is one."""
    mine = (Preference.org_id == org_id, Preference.user_id == user_id)
    return session.scalar(sa.select(Preference).where(*mine).with_for_update())


def _keep(session: Session, wanted: Mapping[str, Any], *, org_id: str, user_id: str) -> int:
    """Write somebody's preferences, and send nothing more of what is off by now; return their version."""
    row = insert(Preference).values(org_id=org_id, user_id=user_id, chosen=dict(wanted))
    kept = row.on_conflict_do_update(
        index_elements=["org_id", "user_id"],
        set_={"chosen": row.excluded.chosen, "version": Preference.version + 1, "updated_at": sa.func.now()},
    )
    mailing.cancel(session, org_id=org_id, user_id=user_id, kinds=letters.switched_off(wanted))
    return int(session.execute(kept.returning(Preference.version)).scalar_one())


def _told(org_id: str, user_id: str, *, email: str, version: int, wanted: Mapping[str, Any]) -> NewMail:
    return NewMail(
        org_id=org_id,
        user_id=user_id,
        key=f"preferences_updated/{user_id}/{version}",
        kind="preferences_updated",
        recipient=email,
        facts={"preferences": dict(wanted)},
    )
