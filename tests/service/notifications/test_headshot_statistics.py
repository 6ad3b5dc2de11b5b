"""The statistics of headshots: the same table whenever, in whatever order and however often its events are read."""

import random
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from services.notifications import headshot_analytics, headshot_facts, headshot_statistics, recording
from services.notifications.service import Notifications
from shared import events
from shared.events import (
    BehaviourTracked,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    ImageFavorited,
    Meta,
)
from shared.ids import new_id
from shared.problems import BadRequest
from tests.polling import until
from tests.service.notifications.told import batch
from tools.topology import bindings_of

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def meta(at: datetime) -> Meta:
    return Meta(id=new_id("evt"), time=at.isoformat())


class Day:
    """What happened to headshots from some time on; each call is a minute later."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at
        self.items: list[Event] = []

    def begun(
        self, style: str, *, user_id: str | None = None, job_id: str | None = None, **more: Any
    ) -> dict[str, Any]:
        known = {
            "job_id": job_id or new_id("job"),
            "generation_id": new_id("gen"),
            "org_id": new_id("org"),
            "user_id": user_id,
            "workflow": "headshot",
            "style": style,
            **more,
        }
        self._add(GenerationStarted(meta=meta(self.at), **known))
        return known

    def made(self, style: str, *, seconds: int = 30, **more: Any) -> dict[str, Any]:
        known = self.begun(style, **more)
        completed = GenerationCompleted(
            meta=meta(self.at),
            **known,
            line_id=known["generation_id"],
            amount=2,
            images=[],
            provider="local",
            model="local-preview-1",
            duration_ms=seconds * 1000,
            provider_cost_microusd=20_000,
        )
        self._add(completed)
        return known

    def failed(self, style: str, *, reason: str = "provider_error", **more: Any) -> None:
        known = self.begun(style, **more)
        self._add(
            GenerationFailed(
                meta=meta(self.at),
                **known,
                line_id=None,
                reason=reason,
                message="No.",
                retryable=True,
                provider_cost_microusd=0,
            )
        )

    def marked(self, known: dict[str, Any], *, image_id: str, favorite: bool) -> None:
        self._add(ImageFavorited(meta=meta(self.at), **known, image_id=image_id, favorite=favorite))

    def did(self, name: str, *, style: str | None = None, user_id: str | None = None) -> None:
        self._add(
            BehaviourTracked(
                meta=meta(self.at),
                behaviour_id=new_id("bhv"),
                org_id=new_id("org"),
                user_id=user_id,
                name=name,
                style=style,
            )
        )

    def _add(self, item: Event) -> None:
        self.items.append(item)
        self.at += timedelta(minutes=1)


def keep(db: Any, *items: Event) -> None:
    """Hand events over as if they came for the first time: what is known already is not even filtered out."""
    with db.transaction() as session:
        headshot_statistics.keep(session, items)
    headshot_statistics.count_due(db)


def table(db: Any) -> list[tuple[Any, ...]]:
    with db.transaction() as session:
        rows = session.execute(sa.text("SELECT * FROM headshot_days ORDER BY date, style, livemode"))
        return [tuple(row) for row in rows]


def shown(db: Any, **days: Any) -> dict[str, Any]:
    with db.transaction() as session:
        return headshot_analytics.analytics(session, first="2026-03-14", last="2026-03-15", **days)


@pytest.fixture
def busy() -> Day:
    """A day and the night after it, with something of everything."""
    day = Day(NOON + timedelta(hours=11, minutes=50))
    ada, grace = new_id("usr"), new_id("usr")
    day.did("style_selected", style="corporate", user_id=ada)
    first = day.made("corporate", seconds=20, user_id=ada)
    day.made("corporate", seconds=40, user_id=ada)
    day.made("creative", seconds=10, user_id=grace)
    day.failed("creative", user_id=grace)
    day.failed("creative", reason="cancelled", user_id=grace)
    day.failed("model", reason="insufficient_credits", user_id=grace)
    day.marked(first, image_id="img_1", favorite=True)
    day.marked(first, image_id="img_2", favorite=True)
    day.marked(first, image_id="img_2", favorite=False)
    day.did("headshot_downloaded", style="corporate", user_id=ada)
    day.did("user_shared", style="corporate", user_id=ada)
    day.did("history_viewed", user_id=grace)
    return day


def test_styles_are_counted_with_their_success_and_time(notifications_db, busy):
    keep(notifications_db, *busy.items)

    styles = {each["style"]: each for each in shown(notifications_db)["styles"]}

    corporate, creative = styles["corporate"], styles["creative"]
    assert (corporate["total_generations"], corporate["succeeded"], corporate["success_rate"]) == (2, 2, 100.0)
    assert (corporate["avg_processing_time_ms"], corporate["credits"]) == (30_000, 4)
    assert (corporate["selected"], corporate["downloaded"], corporate["shared"]) == (1, 1, 1)
    assert corporate["favorites"] == 1
    assert (creative["total_generations"], creative["failed"], creative["cancelled"]) == (3, 1, 1)
    assert creative["success_rate"] == 50.0
    assert styles["model"]["total_generations"] == 0


def test_hours_people_and_failures_are_told(notifications_db, busy):
    keep(notifications_db, *busy.items)

    told = shown(notifications_db)

    assert {each["hour"] for each in told["peak_hours"]} == {23, 0}
    assert sum(each["started"] for each in told["peak_hours"]) == 6
    assert told["users"] == {
        "active": 2,
        "repeat": 2,
        "repeat_rate": 100.0,
        "headshots_per_user": 1.5,
        "history_viewers": 1,
        "history_view_rate": 50.0,
    }
    assert told["failures"] == [{"reason": "provider_error", "count": 1}]
    assert told["favorite_rate"] == pytest.approx(100 / 3, abs=0.01)


def test_somebody_who_asked_once_for_several_styles_is_no_repeat_user(notifications_db):
    day, ada, job_id = Day(), new_id("usr"), new_id("job")
    for style in ("corporate", "creative"):
        day.made(style, user_id=ada, job_id=job_id)

    keep(notifications_db, *day.items)

    users = shown(notifications_db)["users"]
    assert (users["active"], users["repeat"], users["headshots_per_user"]) == (1, 0, 2.0)


def test_events_that_come_one_by_one_twice_and_out_of_order_make_the_same_table(notifications_db, busy):
    keep(notifications_db, *busy.items)
    expected = table(notifications_db)
    with notifications_db.transaction() as session:
        session.execute(sa.text("DELETE FROM headshot_facts"))
        session.execute(sa.text("DELETE FROM headshot_days"))
    shuffled = [*busy.items, *busy.items]
    random.Random(7).shuffle(shuffled)  # noqa: S311  an order that stays the same

    for item in shuffled:
        keep(notifications_db, item)

    assert len(expected) == 5
    assert table(notifications_db) == expected


def test_only_days_of_which_something_was_heard_are_counted(notifications_db):
    old, new = Day(NOON - timedelta(days=3)), Day()
    old.made("corporate")
    new.made("creative")
    keep(notifications_db, *old.items)
    with notifications_db.transaction() as session:
        session.execute(sa.text("UPDATE headshot_days SET started = 99"))
        headshot_statistics.keep(session, new.items)

    assert [headshot_statistics.count_due(notifications_db) for _ in range(2)] == [1, 0]

    assert [(row[1], row[3]) for row in table(notifications_db)] == [("corporate", 99), ("creative", 1)]


def test_what_is_kept_while_its_day_is_counted_is_counted_as_well(notifications_db):
    first, second = Day(), Day(NOON + timedelta(hours=1))
    first.made("corporate")
    second.made("corporate")
    with notifications_db.transaction() as session:
        headshot_statistics.keep(session, first.items)
    counted = threading.Thread(target=headshot_statistics.count_due, args=(notifications_db,))

    with notifications_db.transaction() as session:
        headshot_statistics.keep(session, second.items)
        counted.start()
        until(lambda: waiting(notifications_db), seconds=10, what="whoever counts to wait")
    counted.join()
    headshot_statistics.count_due(notifications_db)

    assert [row[3] for row in table(notifications_db)] == [2]


def waiting(db):
    with db.transaction() as session:
        return session.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def test_the_table_is_made_anew_from_the_log(notifications_db, busy):
    notifications_db.once(batch(*busy.items), partial(recording.record, notifications_db))
    keep(notifications_db, *busy.items)
    expected = table(notifications_db)
    with notifications_db.transaction() as session:
        session.execute(sa.text("UPDATE headshot_facts SET style = 'nonsense'"))
        session.execute(sa.text("DELETE FROM headshot_days"))

    for _ in range(2):
        with notifications_db.transaction() as session:
            headshot_statistics.rebuild(session)

        assert table(notifications_db) == expected


def test_what_is_older_than_the_log_stays_as_it_was_counted(notifications_db):
    old, new = Day(NOON - timedelta(days=400)), Day()
    old.made("corporate")
    new.made("creative")
    keep(notifications_db, *old.items, *new.items)
    notifications_db.once(batch(*new.items), partial(recording.record, notifications_db))
    expected = table(notifications_db)

    with notifications_db.transaction() as session:
        headshot_statistics.rebuild(session)

    assert table(notifications_db) == expected
    assert len(expected) == 2


def test_what_is_on_its_way_into_the_log_is_not_forgotten(notifications_db):
    """Both hear of an event by a queue of their own, and this one was first."""
    day = Day()
    day.made("corporate")
    notifications_db.once(batch(*day.items), partial(recording.record, notifications_db))
    day.made("creative")
    keep(notifications_db, *day.items)
    expected = table(notifications_db)

    with notifications_db.transaction() as session:
        headshot_statistics.rebuild(session)

    assert table(notifications_db) == expected
    assert len(expected) == 2


def test_a_mark_that_was_taken_off_stays_off_though_the_log_has_only_heard_of_its_beginning(notifications_db):
    day = Day()
    known = day.made("corporate")
    day.marked(known, image_id="img_1", favorite=True)
    notifications_db.once(batch(*day.items), partial(recording.record, notifications_db))
    day.marked(known, image_id="img_1", favorite=False)
    keep(notifications_db, *day.items)

    with notifications_db.transaction() as session:
        headshot_statistics.rebuild(session)

    assert [each["favorites"] for each in shown(notifications_db)["styles"]] == [0]


@pytest.mark.parametrize("in_order", [True, False])
def test_of_two_marks_the_one_that_was_numbered_later_counts_whatever_the_clocks_said(notifications_db, *, in_order):
    day = Day()
    known = day.made("corporate")
    marks = [
        ImageFavorited(
            meta=Meta(id=new_id("evt"), time=at.isoformat(), sequence=f"{number:020d}"),
            **known,
            image_id="img_1",
            favorite=favorite,
        )
        for number, favorite, at in ((9, True, NOON + timedelta(seconds=2)), (10, False, NOON))
    ]

    for items in (marks if in_order else marks[::-1], marks):
        keep(notifications_db, *day.items, items[0])
        keep(notifications_db, items[1])
        keep(notifications_db, *items)

    assert [each["favorites"] for each in shown(notifications_db)["styles"]] == [0]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("2026-03-15", "2026-03-14"),
        ("2025-03-14", "2026-03-15"),
        (None, "0001-01-05"),
        ("9999-12-31", "9999-12-31"),
        ("2020-01-01", None),
    ],
)
def test_a_period_is_of_days_that_there_are_and_no_longer_than_a_year(notifications_db, first, last):
    with notifications_db.transaction() as session, pytest.raises(BadRequest, match="366"):
        headshot_analytics.analytics(session, first=first, last=last)


def test_other_product_lines_and_test_keys_are_not_counted_among_them(notifications_db):
    day = Day()
    day.made("modern", workflow="staging")
    day.made("corporate", livemode=False)

    keep(notifications_db, *day.items)

    assert shown(notifications_db)["styles"] == []
    assert [each["style"] for each in shown(notifications_db, livemode=False)["styles"]] == ["corporate"]


def test_what_is_counted_is_all_in_the_log_for_everybody_to_count():
    (binding,) = [
        item for item in bindings_of(Notifications, service="notifications") if item.queue.endswith("on_headshots")
    ]

    assert set(binding.event_types or ()) == {cls.__name__ for cls in headshot_facts.TYPES}
    assert set(headshot_facts.TYPES) <= set(events.logged())
