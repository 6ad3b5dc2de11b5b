"""The inbox as a channel: a message for whoever has not switched its kind off."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from services.notifications import inbox
from services.notifications.channels.told import Told
from services.notifications.inbox import NewMessage
from shared.database import Database


def add(_db: Database, session: Session, told: Sequence[Told]) -> None:
    """Put messages into inboxes."""
    inbox.add(session, [_message(each) for each in told if _is_wanted(each)])


def _is_wanted(each: Told) -> bool:
    kind = each.notice.browser_kind
    return kind is None or bool(each.wanted["browser"][kind])


def _message(each: Told) -> NewMessage:
    return NewMessage(
        org_id=each.to.org_id,
        user_id=each.to.user_id,
        key=each.notice.key,
        kind=each.notice.kind,
        text=each.notice.text,
        goes_on=each.notice.goes_on,
        job_id=each.notice.job_id,
        session_id=each.notice.session_id,
    )
