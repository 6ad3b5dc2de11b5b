"""The statistics of staging sessions, as they are counted from the log of events."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifications import recording, staging_analytics
from shared.database import Database
from shared.events import Event, JobFinished, Meta, StagingSessionChanged
from shared.ids import new_id

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)


class Visit:
    """One session from its beginning on; each event comes so many minutes after the one before."""

    def __init__(self, *, livemode: bool = True, at: datetime = NOON) -> None:
        self.about = {"org_id": new_id("org"), "livemode": livemode}
        self.session_id = new_id("ses")
        self.at = at
        self.events: list[Event] = []
        self.to("created", "draft", minutes=0)

    def to(self, change: str, status: str, *, minutes: float = 1, empty_rooms: int = 0, variants: int = 0) -> "Visit":
        self.at += timedelta(minutes=minutes)
        told = StagingSessionChanged(
            meta=Meta(id=new_id("evt"), time=self.at.isoformat()),
            **self.about,
            session_id=self.session_id,
            user_id=None,
            session_name=None,
            change=change,
            status=status,
            room_state="generate_empty",
            empty_rooms=empty_rooms,
            variants=variants,
            image_id=None,
            version=len(self.events) + 1,
            created_at=NOON.isoformat(),
        )
        self.events.append(told)
        return self

    def emptied(self, rooms: int, **more: Any) -> "Visit":
        return self.to("job_ended", "selecting", empty_rooms=rooms, **more)

    def completed(self, *, rooms: int = 0, **more: Any) -> "Visit":
        return self.to("job_ended", "completed", empty_rooms=rooms, variants=2, **more)


def a_staging(*, session_id: str | None = None, status: str = "succeeded", **more: Any) -> JobFinished:
    known = {"job_id": new_id("job"), "org_id": new_id("org"), "user_id": None, "workflow": "staging", "lines": []}
    meta = Meta(id=new_id("evt"), time=NOON.isoformat())
    return JobFinished(
        meta=meta, **{**known, "status": status, "succeeded": 1, "failed": 0, **more}, session_id=session_id
    )


def told(db: Database, *items: Event | Visit, **asked: Any) -> dict[str, Any]:
    """Record events, those of visits from the last to the first, and return the statistics."""
    events = [each for item in items for each in (item.events[::-1] if isinstance(item, Visit) else [item])]
    with db.transaction() as session:
        recording.record(db, session, events)
    with db.transaction() as session:
        return staging_analytics.analytics(session, **asked)


def test_sessions_are_counted_with_their_retries_and_the_time_they_take(notifications_db: Database) -> None:
    direct = Visit().completed(minutes=4)
    retried = Visit().emptied(1).emptied(2).emptied(3).completed(rooms=3, minutes=7).completed(rooms=3, minutes=90)
    unfinished = Visit().emptied(1)

    sessions = told(notifications_db, direct, retried, unfinished)["sessions"]

    assert (sessions["begun"], sessions["completed"], sessions["completion_rate"]) == (3, 2, 66.67)
    assert sessions["avg_seconds_to_complete"] == (4 + 10) * 60 / 2
    assert sessions["retries_per_session"] == 1.0


def test_who_comes_back_to_a_session_is_told_from_who_left_it_for_good(notifications_db: Database) -> None:
    visits = [
        Visit().emptied(1).completed(rooms=1, minutes=31),
        Visit().emptied(1, minutes=29).completed(rooms=1, minutes=29),
        Visit().completed().completed(minutes=120),
        Visit().emptied(1),
        Visit().emptied(1).emptied(2, minutes=45),
        Visit().to("deleted", "draft"),
        Visit(at=datetime.now(UTC) - timedelta(minutes=5)),
    ]

    sessions = told(notifications_db, *visits)["sessions"]

    assert (sessions["taken_up_again"], sessions["left_behind"], sessions["recovery_rate"]) == (2, 1, 66.67)


def test_stagings_of_sessions_are_told_from_those_without(notifications_db: Database) -> None:
    of_sessions = [a_staging(session_id=new_id("ses")) for _ in range(3)]
    others = [
        a_staging(),
        a_staging(status="rejected"),
        a_staging(workflow="empty_room", session_id=new_id("ses")),
        a_staging(livemode=False),
    ]

    stagings = told(notifications_db, *of_sessions, *others)["stagings"]

    assert stagings == {"in_sessions": 3, "without_session": 1, "session_rate": 75.0}


@pytest.mark.parametrize(("livemode", "begun"), [(True, 1), (False, 2)])
def test_work_of_test_keys_is_apart(notifications_db: Database, *, livemode: bool, begun: int) -> None:
    visits = [Visit(livemode=True), Visit(livemode=False), Visit(livemode=False)]

    assert told(notifications_db, *visits, livemode=livemode)["sessions"]["begun"] == begun


def test_only_sessions_that_were_begun_on_these_days_count(notifications_db: Database) -> None:
    day = NOON.date().isoformat()
    visits = [Visit(), Visit(at=NOON - timedelta(days=1)).completed(minutes=24 * 60)]

    found = told(notifications_db, *visits, first=day, last=day)

    assert (found["first"], found["last"], found["sessions"]["begun"]) == (day, day, 1)


def test_where_nothing_happened_there_are_no_rates(notifications_db: Database) -> None:
    found = told(notifications_db, first="2026-01-01", last="2026-01-31")

    assert {**found["sessions"], **found["stagings"]} == {
        "begun": 0,
        "completed": 0,
        "completion_rate": None,
        "avg_seconds_to_complete": None,
        "retries_per_session": None,
        "taken_up_again": 0,
        "left_behind": 0,
        "recovery_rate": None,
        "in_sessions": 0,
        "without_session": 0,
        "session_rate": None,
    }
