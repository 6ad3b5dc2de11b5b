"""What administrators read of staging sessions: how many come to their end, how long they take, how they are used.

It is counted from the log of events itself, as far back as that is kept; of all organizations. Reads only.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications.headshot_analytics import period, rows

# Who does nothing for so long has left: who then goes on has come back to a session as it was.
LEFT_AFTER_SECONDS: Final = 1800

_SESSIONS = sa.text("""
WITH told AS (
    SELECT session_id, CAST(body AS jsonb) AS event FROM recorded_events
    WHERE type = 'StagingSessionChanged' AND of_test_key <> :livemode AND recorded_at >= :since
), steps AS (
    SELECT session_id, CAST(event ->> 'time' AS timestamptz) AS at, event #>> '{data,change}' AS change,
        event #>> '{data,status}' AS status, CAST(event #>> '{data,empty_rooms}' AS integer) AS empty_rooms,
        CAST(event #>> '{data,version}' AS integer) AS version
    FROM told
), in_order AS (
    SELECT *, at - lag(at) OVER way AS after,
        count(*) FILTER (WHERE status = 'completed') OVER (way ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            AS completed_before
    FROM steps WINDOW way AS (PARTITION BY session_id ORDER BY version)
), sessions AS (
    SELECT max(empty_rooms) AS empty_rooms, bool_or(change = 'deleted') AS deleted, max(at) AS last_at,
        min(at) FILTER (WHERE change = 'created') AS begun_at,
        min(at) FILTER (WHERE status = 'completed') AS completed_at,
        bool_or(completed_before = 0 AND after > make_interval(secs => :left_after)) AS taken_up_again
    FROM in_order GROUP BY session_id
), known AS (
    SELECT *, completed_at IS NULL AND NOT deleted AND last_at < now() - make_interval(secs => :left_after) AS is_left
    FROM sessions WHERE begun_at >= :since AND begun_at < :until
)
SELECT count(*) AS begun, count(completed_at) AS completed,
    round(100.0 * count(completed_at) / nullif(count(*), 0), 2) AS completion_rate,
    CAST(avg(extract(epoch FROM completed_at - begun_at)) AS bigint) AS avg_seconds_to_complete,
    round(avg(empty_rooms - 1) FILTER (WHERE empty_rooms > 0), 2) AS retries_per_session,
    count(*) FILTER (WHERE taken_up_again) AS taken_up_again,
    count(*) FILTER (WHERE is_left AND NOT coalesce(taken_up_again, false)) AS left_behind,
    round(100.0 * count(*) FILTER (WHERE taken_up_again)
        / nullif(count(*) FILTER (WHERE taken_up_again OR is_left), 0), 2) AS recovery_rate
FROM known
""")
_JOBS = sa.text("""
SELECT count(session_id) AS in_sessions, count(*) - count(session_id) AS without_session,
    round(100.0 * count(session_id) / nullif(count(*), 0), 2) AS session_rate
FROM recorded_events
WHERE type = 'JobFinished' AND of_test_key <> :livemode AND recorded_at >= :since AND recorded_at < :until
    AND CAST(body AS jsonb) #>> '{data,workflow}' = 'staging' AND CAST(body AS jsonb) #>> '{data,status}' <> 'rejected'
""")


def analytics(
    session: Session, *, first: str | None = None, last: str | None = None, livemode: bool = True
) -> dict[str, Any]:
    """Return the statistics of sessions begun on the days from ``first`` to ``last``, in UTC; of 30 days to today.

    Returns:
        ``{first, last, sessions: {begun, completed, completion_rate, avg_seconds_to_complete, retries_per_session,
        taken_up_again, left_behind, recovery_rate}, stagings: {in_sessions, without_session, session_rate}}``; rates
        are percent. A session is completed by its first staged variant; its time counts from its beginning to the end
        of that job. ``recovery_rate``: of those in which nothing happened for half an hour, how many went on.
    """
    which = period(first, last) | {"livemode": livemode, "left_after": LEFT_AFTER_SECONDS}
    return {
        "first": which["first"].isoformat(),
        "last": which["last"].isoformat(),
        "sessions": rows(session, _SESSIONS, which)[0],
        "stagings": rows(session, _JOBS, which)[0],
    }
