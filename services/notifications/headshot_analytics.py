"""What administrators read of headshots: days, styles, hours, people; of all organizations. Reads only."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.problems import BadRequest

DAYS: Final = 30
DAYS_MAX: Final = 366
_COUNTS: Final = (
    "started, total_generations, succeeded, failed, cancelled, credits, success_rate, avg_processing_time_ms,"
    " favorites, selected, downloaded, shared"
)
_SELECT_DAYS = sa.text(f"""
SELECT date, style, users, {_COUNTS} FROM headshot_days
WHERE livemode = :livemode AND date >= :first AND date <= :last ORDER BY date, style
""")
_SELECT_STYLES = sa.text("""
SELECT style, sum(started) AS started, sum(total_generations) AS total_generations, sum(succeeded) AS succeeded,
    sum(failed) AS failed, sum(cancelled) AS cancelled, sum(credits) AS credits,
    round(100.0 * sum(succeeded) / nullif(sum(succeeded) + sum(failed), 0), 2) AS success_rate,
    CAST(sum(avg_processing_time_ms * CAST(succeeded AS bigint)) / nullif(sum(succeeded), 0) AS bigint)
        AS avg_processing_time_ms,
    sum(favorites) AS favorites, sum(selected) AS selected, sum(downloaded) AS downloaded, sum(shared) AS shared
FROM headshot_days WHERE livemode = :livemode AND date >= :first AND date <= :last
GROUP BY style ORDER BY total_generations DESC, style
""")
_OF_THESE_DAYS = "livemode = :livemode AND at >= :since AND at < :until"
_SELECT_HOURS = sa.text(f"""
SELECT CAST(extract(hour FROM at AT TIME ZONE 'UTC') AS integer) AS hour, count(*) AS started FROM headshot_facts
WHERE kind = 'started' AND {_OF_THESE_DAYS} GROUP BY hour ORDER BY started DESC, hour
""")
_SELECT_FAILURES = sa.text(f"""
SELECT reason, count(*) AS count FROM headshot_facts
WHERE kind = 'failed' AND {_OF_THESE_DAYS} GROUP BY reason ORDER BY count DESC, reason
""")
_SELECT_USERS = sa.text(f"""
WITH people AS (
    SELECT user_id, count(DISTINCT job_id) AS jobs, count(*) FILTER (WHERE kind = 'succeeded') AS made
    FROM headshot_facts
    WHERE kind IN ('succeeded', 'failed', 'cancelled') AND user_id IS NOT NULL AND {_OF_THESE_DAYS} GROUP BY user_id
), viewers AS (
    SELECT DISTINCT user_id FROM headshot_facts
    WHERE kind = 'viewed' AND user_id IS NOT NULL AND {_OF_THESE_DAYS}
)
SELECT count(*) AS active, count(*) FILTER (WHERE jobs > 1) AS repeat,
    round(100.0 * count(*) FILTER (WHERE jobs > 1) / nullif(count(*), 0), 2) AS repeat_rate,
    round(avg(made), 2) AS headshots_per_user,
    (SELECT count(*) FROM viewers) AS history_viewers,
    round(100.0 * count(*) FILTER (WHERE user_id IN (SELECT user_id FROM viewers)) / nullif(count(*), 0), 2)
        AS history_view_rate
FROM people
""")


def analytics(
    session: Session, *, first: str | None = None, last: str | None = None, livemode: bool = True
) -> dict[str, Any]:
    """Return the statistics of the days from ``first`` to ``last``, both included, in UTC; of 30 days to today.

    Returns:
        ``{first, last, days, styles, peak_hours, users, failures, favorite_rate}``; rates are percent, times
        milliseconds. ``users`` counts people, not keys; who asked for more than one job is a repeat user.

    Raises:
        BadRequest: that is no period of at most 366 days.
    """
    which = period(first, last) | {"livemode": livemode}
    styles = rows(session, _SELECT_STYLES, which)
    made = sum(each["succeeded"] for each in styles)
    return {
        "first": which["first"].isoformat(),
        "last": which["last"].isoformat(),
        "days": rows(session, _SELECT_DAYS, which),
        "styles": styles,
        "peak_hours": rows(session, _SELECT_HOURS, which),
        "users": rows(session, _SELECT_USERS, which)[0],
        "failures": rows(session, _SELECT_FAILURES, which),
        "favorite_rate": round(100 * sum(each["favorites"] for each in styles) / made, 2) if made else None,
    }


def period(first: str | None, last: str | None) -> dict[str, Any]:
    """Return the days from ``first`` to ``last``, 30 days to today unless told, and the moments they are between.

    Raises:
        BadRequest: that is no period of at most 366 days.
    """
    try:
        end = date.fromisoformat(last) if last else datetime.now(UTC).date()
        begin = date.fromisoformat(first) if first else end - timedelta(days=DAYS - 1)
        day_after = end + timedelta(days=1)
    except OverflowError:  # the calendar has no such day
        begin, end, day_after = date.max, date.min, date.min
    if not 0 <= (end - begin).days < DAYS_MAX:
        detail = f"give the first and the last day of a period of at most {DAYS_MAX} days"
        raise BadRequest(detail, errors=[{"pointer": "/query/first", "code": "invalid", "detail": detail}])
    return {
        "first": begin,
        "last": end,
        "since": datetime(begin.year, begin.month, begin.day, tzinfo=UTC),
        "until": datetime(day_after.year, day_after.month, day_after.day, tzinfo=UTC),
    }


def rows(session: Session, statement: sa.TextClause, which: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what ``statement`` finds, as JSON has it."""
    found = session.execute(statement, which).mappings()
    return [{name: _plain(name, value) for name, value in row.items()} for row in found]


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it: rates are numbers with a fraction, counts are whole."""
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, str):
        return value
    return float(value) if name.endswith(("_rate", "_per_user", "_per_session")) else int(value)
