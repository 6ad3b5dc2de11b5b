"""The statistics of headshots: facts, kept as events come or made anew from their log, and a daily table of them.

A day is always counted as a whole, soon after something of it was kept. Whoever keeps holds its mark until the commit,
so that whoever counts sees all of what it counts.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.notifications import headshot_facts
from services.notifications.headshot_facts import Fact
from services.notifications.models import RecordedEvent
from shared import events
from shared.database import Database
from shared.events import Event

log = structlog.get_logger(__name__)

_TYPES: Final = tuple(cls.__name__ for cls in headshot_facts.TYPES)
_PAGE: Final = 1000
# Whoever counts does so alone.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7301023)")
_COLUMNS: Final = tuple(each.name for each in dataclasses.fields(Fact))
_DAY: Final = "CAST(at AT TIME ZONE 'UTC' AS date)"
# Of two facts with one id the later one counts, whichever came first.
_KEEP = sa.text(f"""
INSERT INTO headshot_facts AS known ({", ".join(_COLUMNS)})
SELECT {", ".join(_COLUMNS)} FROM jsonb_to_recordset(CAST(:facts AS jsonb)) AS given (
    id text, event_id text, at timestamptz, kind text, org_id text, user_id text, livemode boolean, style text,
    job_id text, duration_ms bigint, amount integer, reason text, sequence text)
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
WHERE (known.sequence, known.at, known.event_id) < (excluded.sequence, excluded.at, excluded.event_id)
""")
# One that is there already is written again: whoever takes it waits until these facts are there to be counted.
_MARK_DAYS = sa.text("""
INSERT INTO headshot_days_due (date) SELECT day FROM unnest(CAST(:days AS date[])) AS given (day) ORDER BY day
ON CONFLICT (date) DO UPDATE SET date = excluded.date
""")
_TAKE_DAYS = sa.text("DELETE FROM headshot_days_due RETURNING date")
_DAYS_OF = sa.text(f"SELECT DISTINCT {_DAY} FROM headshot_facts WHERE id = ANY (:ids)")
_FORGET_DAYS = sa.text("DELETE FROM headshot_days WHERE date = ANY (:days)")
_COUNT_DAYS = sa.text(f"""
INSERT INTO headshot_days (date, style, livemode, started, total_generations, succeeded, failed, cancelled, credits,
    success_rate, avg_processing_time_ms, users, favorites, selected, downloaded, shared)
SELECT {_DAY}, style, livemode,
    count(*) FILTER (WHERE kind = 'started'),
    count(*) FILTER (WHERE kind IN ('succeeded', 'failed', 'cancelled')),
    count(*) FILTER (WHERE kind = 'succeeded'),
    count(*) FILTER (WHERE kind = 'failed'),
    count(*) FILTER (WHERE kind = 'cancelled'),
    coalesce(sum(amount) FILTER (WHERE kind = 'succeeded'), 0),
    round(100.0 * count(*) FILTER (WHERE kind = 'succeeded')
        / nullif(count(*) FILTER (WHERE kind IN ('succeeded', 'failed')), 0), 2),
    CAST(avg(duration_ms) FILTER (WHERE kind = 'succeeded') AS integer),
    count(DISTINCT user_id) FILTER (WHERE kind IN ('succeeded', 'failed', 'cancelled')),
    count(*) FILTER (WHERE kind = 'favorite'),
    count(*) FILTER (WHERE kind = 'selected'),
    count(*) FILTER (WHERE kind = 'downloaded'),
    count(*) FILTER (WHERE kind = 'shared')
FROM headshot_facts WHERE style IS NOT NULL AND at >= :since AND at < :until AND {_DAY} = ANY (:days)
GROUP BY {_DAY}, style, livemode
""")
_FORGET_LOGGED = sa.text(f"""
DELETE FROM headshot_facts USING recorded_events logged
WHERE logged.org_id = headshot_facts.org_id AND logged.event_id = headshot_facts.event_id RETURNING {_DAY}
""")


def keep(session: Session, items: Sequence[Event]) -> list[Event]:
    """Keep what events tell of headshots, to be counted soon; told again, or in another order, it comes to the same."""
    told = [headshot_facts.fact(events.public(item)) for item in items]
    facts = [each for each in told if each is not None]
    if facts:
        session.execute(_MARK_DAYS, {"days": sorted(_kept(session, facts))})
    return []


def count_due(db: Database) -> int:
    """Count the days anew of which something was kept since they were counted; return how many they were."""
    with db.transaction() as session:
        session.execute(_LOCK)
        days = set(session.scalars(_TAKE_DAYS))
        _count(session, days)
    return len(days)


def rebuild(session: Session) -> int:
    """Make the daily table anew from the log; return how many facts that has told.

    Of what the log does not know the facts stay as they are: it is older than the log goes back, or on its way there.
    """
    session.execute(_LOCK)
    days = set(session.scalars(_FORGET_LOGGED))
    told = 0
    for facts in _logged(session):
        days |= _kept(session, facts)
        told += len(facts)
    _count(session, days)
    log.info("headshot_statistics_rebuilt", facts=told, days=len(days))
    return told


def _logged(session: Session) -> Iterator[list[Fact]]:
    """Yield what the log tells of headshots, organization by organization."""
    place = sa.tuple_(RecordedEvent.org_id, RecordedEvent.type, RecordedEvent.sequence)
    after: tuple[str, str, int] = ("", "", 0)
    while True:
        rows = session.execute(
            sa.select(RecordedEvent.org_id, RecordedEvent.type, RecordedEvent.sequence, RecordedEvent.body)
            .where(RecordedEvent.type.in_(_TYPES), place > sa.tuple_(*(sa.literal(each) for each in after)))
            .order_by(RecordedEvent.org_id, RecordedEvent.type, RecordedEvent.sequence)
            .limit(_PAGE)
        ).all()
        told = [headshot_facts.fact(msgspec.json.decode(row.body)) for row in rows]
        facts = [each for each in told if each is not None]
        if facts:
            yield facts
        if len(rows) < _PAGE:
            return
        after = (rows[-1].org_id, rows[-1].type, rows[-1].sequence)


def _kept(session: Session, facts: Sequence[Fact]) -> set[date]:
    """Write facts down; return the days that have to be counted anew: where they were, and where they are."""
    latest: dict[str, Fact] = {}
    for each in facts:  # one statement cannot change a row twice
        known = latest.get(each.id)
        if known is None or known.order < each.order:
            latest[each.id] = each
    ids = sorted(latest)
    days = set(session.scalars(_DAYS_OF, {"ids": ids}))
    given = msgspec.json.encode([dataclasses.asdict(latest[fact_id]) for fact_id in ids]).decode()
    session.execute(_KEEP, {"facts": given})
    return days | {each.at.astimezone(UTC).date() for each in latest.values()}


def _count(session: Session, days: Iterable[date]) -> None:
    which = sorted(days)
    if which:
        begin, end = _midnight(which[0]), _midnight(which[-1] + timedelta(days=1))
        session.execute(_FORGET_DAYS, {"days": which})
        session.execute(_COUNT_DAYS, {"days": which, "since": begin, "until": end})


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
