"""Mails that gather: weeks, days and tips; each once for each reader, however many replicas look."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from services.notifications import summaries
from shared import events
from shared.ids import new_id
from shared.problems import BadRequest
from tests.service.notifications.hooks import tell as record
from tests.service.notifications.mails import rows
from tests.service.notifications.test_telling import a_member, choose, hear, invited, removed, tell
from tests.service.notifications.told import finished

WEDNESDAY = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
MONDAY = datetime(2031, 5, 5, 0, 0, tzinfo=UTC)


@pytest.fixture
def org_id():
    return new_id("org")


def of_kind(db, kind):
    return [row[1:] for row in rows(db, "kind, recipient, facts") if row[0] == kind]


@pytest.fixture
def at(tamper):
    """Return a function that lets everything in the log have been recorded at a time."""

    def make(moment):
        tamper(f"UPDATE recorded_events SET recorded_at = '{moment.isoformat()}'")

    return make


# --- weeks ------------------------------------------------------------------------------------------------------


def test_whoever_asked_for_it_gets_the_figures_of_last_week_once(notifications_db, org_id, at):
    reader, other = a_member(notifications_db, org_id), a_member(notifications_db, org_id)
    hear(notifications_db, invited(org_id, new_id("usr"), email="x@example.com", organization_name="Engines"))
    choose(notifications_db, org_id, reader, email={"weekly_usage_summary": True})
    first = finished(org_id, succeeded=176, failed=4)
    told_again = events.with_meta(first, events.correlated("req_2"))
    record(notifications_db, first, told_again, finished(org_id, succeeded=2), finished(new_id("org"), succeeded=50))
    record(notifications_db, finished(org_id, succeeded=7, livemode=False))
    at(MONDAY - timedelta(days=3))

    sent = [summaries.send_weekly(notifications_db, now=WEDNESDAY) for _ in range(2)]

    ((recipient, facts),) = of_kind(notifications_db, "weekly_usage_summary")
    assert sent == [1, 0]
    assert recipient == f"{reader}@example.com"
    assert other not in recipient
    assert {name: facts[name] for name in ("jobs", "images", "failed", "organization")} == {
        "jobs": 2,
        "images": 178,
        "failed": 4,
        "organization": "Engines",
    }


@pytest.mark.parametrize("moment", [MONDAY - timedelta(days=8), MONDAY])
def test_what_is_of_another_week_does_not_count(notifications_db, org_id, at, moment):
    reader = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, reader, email={"weekly_usage_summary": True})
    record(notifications_db, finished(org_id))
    at(moment)

    summaries.send_weekly(notifications_db, now=WEDNESDAY)

    ((_, facts),) = of_kind(notifications_db, "weekly_usage_summary")
    assert (facts["jobs"], facts["images"]) == (0, 0)


def test_a_week_is_told_from_monday_eight_oclock_on_and_the_next_one_again(notifications_db, org_id):
    choose(notifications_db, org_id, a_member(notifications_db, org_id), email={"weekly_usage_summary": True})

    moments = [
        timedelta(hours=7, minutes=59),
        timedelta(hours=8),
        timedelta(days=6, hours=23),
        timedelta(days=7, hours=8),
    ]
    sent = [summaries.send_weekly(notifications_db, now=MONDAY + moment) for moment in moments]

    assert sent == [0, 1, 0, 1]


def test_replicas_that_look_at_once_send_one(notifications_db, org_id):
    choose(notifications_db, org_id, a_member(notifications_db, org_id), email={"weekly_usage_summary": True})
    threads = [
        threading.Thread(target=summaries.send_weekly, args=(notifications_db,), kwargs={"now": WEDNESDAY})
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(of_kind(notifications_db, "weekly_usage_summary")) == 1


# --- days -------------------------------------------------------------------------------------------------------


def test_a_day_is_gathered_into_one_mail(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, user_id, frequency="daily_digest", timezone="Europe/Berlin")
    tell(notifications_db, *[finished(org_id, user_id=user_id) for _ in range(3)])

    before = summaries.send_digests(notifications_db, now=datetime(2031, 5, 7, 5, 59, tzinfo=UTC))
    due = [summaries.send_digests(notifications_db, now=datetime(2031, 5, 7, 6, 1, tzinfo=UTC)) for _ in range(2)]

    ((recipient, facts),) = of_kind(notifications_db, "daily_digest")
    assert (before, due) == (0, [1, 0])
    assert recipient == f"{user_id}@example.com"
    assert facts == {"items": ["Staging complete! 2 of 2 images generated."] * 3, "count": 3}
    assert [status for kind, status in rows(notifications_db, "kind, status") if kind == "generation_completed"] == [
        "digested"
    ] * 3


def test_replicas_that_gather_a_day_at_once_send_one_mail_and_lose_nothing(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, user_id, frequency="daily_digest")
    tell(notifications_db, *[finished(org_id, user_id=user_id) for _ in range(5)])
    sent: list[int] = []
    threads = [
        threading.Thread(target=lambda: sent.append(summaries.send_digests(notifications_db, now=WEDNESDAY)))
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    tell(notifications_db, *[finished(org_id, user_id=user_id) for _ in range(5)])
    for thread in threads:
        thread.join()
    summaries.send_digests(notifications_db, now=WEDNESDAY + timedelta(days=1))

    assert sum(sent) == 1
    assert sum(facts["count"] for _, facts in of_kind(notifications_db, "daily_digest")) == 10


def test_a_week_is_added_up_once_however_often_it_is_looked_at(notifications_db, org_id):
    choose(notifications_db, org_id, a_member(notifications_db, org_id), email={"weekly_usage_summary": True})
    asked: list[str] = []
    sa.event.listen(
        notifications_db.engine, "before_cursor_execute", lambda _connection, _cursor, text, *_: asked.append(text)
    )

    for _ in range(5):
        summaries.send_weekly(notifications_db, now=WEDNESDAY)

    assert len([text for text in asked if "FROM recorded_events" in text]) == 1


def test_what_comes_after_a_days_mail_waits_for_the_next_day(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, user_id, frequency="daily_digest")
    sent = []
    for hours in (0, 2, 24):
        tell(notifications_db, finished(org_id, user_id=user_id))
        sent.append(summaries.send_digests(notifications_db, now=WEDNESDAY + timedelta(hours=hours)))

    assert sent == [1, 0, 1]
    assert sorted(facts["count"] for _, facts in of_kind(notifications_db, "daily_digest")) == [1, 2]


def test_a_long_day_is_told_in_part_and_counted_whole(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, user_id, frequency="daily_digest")
    tell(notifications_db, *[finished(org_id, user_id=user_id) for _ in range(60)])

    summaries.send_digests(notifications_db, now=WEDNESDAY)

    ((_, facts),) = of_kind(notifications_db, "daily_digest")
    assert (len(facts["items"]), facts["count"]) == (50, 60)


def test_whoever_leaves_gets_no_mail_of_the_day(notifications_db, org_id):
    user_id = a_member(notifications_db, org_id)
    choose(notifications_db, org_id, user_id, frequency="daily_digest")
    tell(notifications_db, finished(org_id, user_id=user_id))
    hear(notifications_db, removed(org_id, user_id))

    assert summaries.send_digests(notifications_db, now=WEDNESDAY) == 0


# --- tips -------------------------------------------------------------------------------------------------------


def test_a_tip_reaches_those_who_want_tips_once(notifications_db, org_id):
    reader, other_org = a_member(notifications_db, org_id), new_id("org")
    choose(notifications_db, org_id, reader, email={"tips_and_best_practices": True})
    a_member(notifications_db, org_id)
    late = a_member(notifications_db, other_org)
    tip = {"tip_id": "tip_1", "subject": "Better photos", "paragraphs": ["Open the curtains."]}

    first = summaries.send_tips(notifications_db, **tip)
    choose(notifications_db, other_org, late, email={"tips_and_best_practices": True})
    again = summaries.send_tips(notifications_db, **tip)

    assert (first["mails"], again["mails"]) == (1, 1)
    assert [recipient for recipient, _ in of_kind(notifications_db, "tips")] == [
        f"{reader}@example.com",
        f"{late}@example.com",
    ]


@pytest.mark.parametrize(
    "tip",
    [
        {"subject": "", "paragraphs": ["text"]},
        {"subject": "Better photos", "paragraphs": []},
        {"subject": "Better photos", "paragraphs": [" "]},
        {"subject": "Better photos", "paragraphs": ["x" * 2001]},
        {"subject": "Better photos", "paragraphs": ["x"] * 21},
    ],
)
def test_a_tip_that_says_nothing_or_too_much_is_refused(notifications_db, tip):
    with pytest.raises(BadRequest):
        summaries.send_tips(notifications_db, tip_id="tip_1", **tip)
