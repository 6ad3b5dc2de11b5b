"""Mail as a channel: at once, after quiet hours, or gathered for the day, for whoever has not switched its kind off."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from services.notifications import mailing, preferences
from services.notifications.channels.told import Told
from services.notifications.mailing import NewMail
from shared.database import Database

_FAILED: Final = "generation_failed"
_COMPLETED: Final = "generation_completed"
# One that was tried may have left, and is only ever sent again as it was: there is one mail of a kind for each session.
_SAY_WHAT_IS = sa.text("""
UPDATE mails m SET facts = given.facts
FROM jsonb_to_recordset(:mails) AS given (key text, facts jsonb)
WHERE m.key = given.key AND m.status IN ('pending', 'gathered') AND m.attempt = 0 AND m.facts <> given.facts
""").bindparams(sa.bindparam("mails", type_=JSONB))
_CANCEL = sa.text("""
UPDATE mails SET status = 'cancelled', ended_at = now(), lease_until = NULL
WHERE key = ANY (:keys) AND status IN ('pending', 'gathered')
""")


def add(db: Database, session: Session, told: Sequence[Told]) -> None:
    """Add mails; those of a session that were not tried yet say what has come of it by now."""
    written = [(each, _mail(each)) for each in told if each.to.email and _is_wanted(each)]
    mailing.add(db, session, [mail for _, mail in written])
    going_on = [{"key": mail.key, "facts": dict(mail.facts)} for each, mail in written if each.notice.goes_on]
    if going_on:
        session.execute(_SAY_WHAT_IS, {"mails": going_on})
    overtaken = [_key(each, kind=_FAILED) for each in told if each.notice.goes_on and each.notice.kind == _COMPLETED]
    if overtaken:
        session.execute(_CANCEL, {"keys": overtaken})


def _is_wanted(each: Told) -> bool:
    notice = each.notice
    if notice.email_kind:
        return bool(each.wanted["email"][notice.email_kind])
    return notice.mailed and (notice.browser_kind is None or bool(each.wanted["browser"][notice.browser_kind]))


def _mail(each: Told) -> NewMail:
    notice, wanted = each.notice, each.wanted
    facts: dict[str, Any] = {"text": notice.text, "name": each.to.name, "timezone": wanted["timezone"]}
    return NewMail(
        org_id=each.to.org_id,
        user_id=each.to.user_id,
        key=_key(each, kind=notice.kind),
        kind=notice.kind,
        recipient=each.to.email or "",
        facts={**notice.facts, **facts},
        # What nobody can switch off is not put off either.
        gathered=wanted["frequency"] == preferences.DAILY_DIGEST and notice.email_kind is not None,
        due_at=preferences.quiet_until(wanted, now=datetime.now(UTC)) if notice.browser_kind else None,
    )


def _key(each: Told, *, kind: str) -> str:
    """Return what a mail is known by: a session may have failed first, and be complete later on."""
    key = f"{each.notice.key}/{each.to.user_id}"
    return f"{kind}/{key}" if each.notice.goes_on else key
