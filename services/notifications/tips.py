"""Tips: what an administrator has to say to everybody who asked for some. Kept once, mailed to some at a time."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications import mailing
from services.notifications.mailing import NewMail
from services.notifications.models import Tip
from shared.database import Database
from shared.notification_limits import TIP_PARAGRAPHS_MAX, TIP_SUBJECT_MAX, TIP_TEXT_MAX
from shared.problems import BadRequest

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
_READERS = """
FROM people p JOIN preferences c ON c.org_id = p.org_id AND c.user_id = p.user_id
WHERE p.status = 'active' AND p.email IS NOT NULL
    AND ((c.chosen -> 'email') ->> 'tips_and_best_practices') = 'true'
"""
_COUNT = sa.text(f"""
SELECT count(*) {_READERS}
    AND NOT EXISTS (SELECT FROM mails m WHERE m.key = concat('tips/', CAST(:tip_id AS text), '/', p.user_id))
""")
_NEXT = sa.text(f"""
SELECT p.org_id, p.user_id, p.email {_READERS} AND (c.org_id, c.user_id) > (:org_id, :user_id)
ORDER BY c.org_id, c.user_id LIMIT :most
""")


def send(db: Database, *, tip_id: str, subject: str, paragraphs: Sequence[str]) -> dict[str, Any]:
    """Have a tip sent to everybody who asked for tips; the same ``tip_id`` again reaches those it has not reached.

    Returns:
        ``{tip_id, mails}``: to how many it is on its way.

    Raises:
        BadRequest: it says nothing, or too much.
    """
    _check(subject, paragraphs)
    with db.transaction() as session:
        row = insert(Tip).values(id=tip_id, subject=subject, paragraphs=list(paragraphs))
        session.execute(
            row.on_conflict_do_update(index_elements=["id"], set_={"reached_org": "", "reached": "", "ended_at": None})
        )
        return {"tip_id": tip_id, "mails": session.scalar(_COUNT, {"tip_id": tip_id}) or 0}


def spread(db: Database) -> int:
    """Make the mails of the tips that are on their way, some in each transaction; return how many."""
    made, more = 0, True
    while more:
        with db.transaction() as session:
            added, more = _some(db, session)
        made += added
    return made


def facts(session: Session, tip_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the mails of tips tell, by tip."""
    rows = session.scalars(sa.select(Tip).where(Tip.id.in_(tip_ids)))
    return {row.id: {"subject_line": row.subject, "paragraphs": row.paragraphs} for row in rows}


def _some(db: Database, session: Session) -> tuple[int, bool]:
    """Make the next mails of one tip; return how many, and whether there is more to do."""
    open_ones = sa.select(Tip).where(Tip.ended_at.is_(None)).order_by(Tip.id).limit(1)
    tip = session.scalar(open_ones.with_for_update(skip_locked=True))
    if tip is None:
        return 0, False
    readers = session.execute(_NEXT, {"org_id": tip.reached_org, "user_id": tip.reached, "most": AT_ONCE}).all()
    added = mailing.add(db, session, [_mail(tip.id, reader) for reader in readers])
    if readers:
        tip.reached_org, tip.reached = readers[-1].org_id, readers[-1].user_id
    if len(readers) < AT_ONCE:
        tip.ended_at = sa.func.now()
        log.info("tip_sent", tip_id=tip.id)
    return added, True


def _mail(tip_id: str, reader: Any) -> NewMail:
    return NewMail(
        org_id=reader.org_id,
        user_id=reader.user_id,
        key=f"tips/{tip_id}/{reader.user_id}",
        kind="tips",
        recipient=reader.email,
        facts={"tip_id": tip_id},
        priority=2,
    )


def _check(subject: str, paragraphs: Sequence[str]) -> None:
    said = all(text.strip() for text in (subject, *paragraphs))
    short = len(subject) <= TIP_SUBJECT_MAX and all(len(text) <= TIP_TEXT_MAX for text in paragraphs)
    if not (said and short and 1 <= len(paragraphs) <= TIP_PARAGRAPHS_MAX):
        raise BadRequest(
            f"A tip has a subject of at most {TIP_SUBJECT_MAX} characters and 1 to {TIP_PARAGRAPHS_MAX} paragraphs,"
            f" each of at most {TIP_TEXT_MAX}."
        )
