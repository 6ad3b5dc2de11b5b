"""Mails that gather: weeks, days and tips; each once for each reader, however many replicas look."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from services.notifications import preferences, summaries, tips
from services.notifications.email import Folder
from shared import events
from shared.ids import new_id
from shared.problems import BadRequest
from tests.polling import until
from tests.service.notifications.costs import rows_read
from tests.service.notifications.hooks import tell as record
from tests.service.notifications.mails import mailing_by, rows
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


# --- one for all ------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_for(tamper):
    """Return a function that lets no mail of an organization be written."""

    def make(org_id):
        tamper(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.org_id = '{org_id}' AND NEW.kind IN ('weekly_usage_summary', 'daily_digest') THEN"
            " RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON mails FOR EACH ROW EXECUTE FUNCTION refuse()",
        )

    return make


def test_an_organization_whose_week_cannot_be_told_holds_up_no_other(notifications_db, nothing_for):
    organizations = sorted(new_id("org") for _ in range(3))
    readers = [a_member(notifications_db, org_id) for org_id in organizations]
    for org_id, reader in zip(organizations, readers, strict=True):
        choose(notifications_db, org_id, reader, email={"weekly_usage_summary": True})
    nothing_for(organizations[0])

    sent = [summaries.send_weekly(notifications_db, now=WEDNESDAY) for _ in range(2)]

    assert sent == [2, 0]
    assert [recipient for recipient, _ in of_kind(notifications_db, "weekly_usage_summary")] == [
        f"{reader}@example.com" for reader in readers[1:]
    ]


def test_somebody_whose_day_cannot_be_told_holds_up_nobody_else(notifications_db, nothing_for):
    organizations = sorted(new_id("org") for _ in range(2))
    for org_id in organizations:
        reader = a_member(notifications_db, org_id)
        choose(notifications_db, org_id, reader, frequency="daily_digest")
        tell(notifications_db, finished(org_id, user_id=reader))
    nothing_for(organizations[0])

    assert summaries.send_digests(notifications_db, now=WEDNESDAY) == 1
    kept = {org_id: status for org_id, kind, status in rows(notifications_db, "org_id, kind, status") if "gen" in kind}
    assert kept == {organizations[0]: "gathered", organizations[1]: "digested"}


def test_readers_are_gone_through_some_at_a_time(notifications_db, org_id, monkeypatch):
    monkeypatch.setattr(summaries, "READERS_AT_ONCE", 2)
    for _ in range(5):
        choose(notifications_db, org_id, a_member(notifications_db, org_id), email={"weekly_usage_summary": True})

    sent = [summaries.send_weekly(notifications_db, now=WEDNESDAY) for _ in range(2)]

    assert sent == [5, 0]


def test_a_week_of_large_jobs_is_added_up_without_reading_them(notifications_db, org_id, tamper):
    choose(notifications_db, org_id, a_member(notifications_db, org_id), email={"weekly_usage_summary": True})
    tamper(
        "INSERT INTO recorded_events (org_id, sequence, event_id, type, body, job_id, succeeded, failed, recorded_at)"
        f" SELECT '{org_id}', n, 'evt_' || n, CASE WHEN n % 100 = 0 THEN 'JobFinished' ELSE 'GenerationStarted' END,"
        f" 'not even JSON', 'job_' || n, 2, 1, '{(MONDAY - timedelta(days=3)).isoformat()}'"
        " FROM generate_series(1, 30000) AS n",
        "ANALYZE recorded_events",
    )

    cost = rows_read(notifications_db, lambda _: summaries.send_weekly(notifications_db, now=WEDNESDAY))

    ((_, facts),) = of_kind(notifications_db, "weekly_usage_summary")
    assert (facts["jobs"], facts["images"], facts["failed"]) == (300, 600, 300)
    assert cost < 3_000


def test_what_others_chose_is_not_read_to_tell_some(notifications_db, org_id, tamper):
    reader = a_member(notifications_db, org_id)
    tamper(
        "INSERT INTO preferences (org_id, user_id, chosen)"
        " SELECT 'org_' || n, 'usr_' || n, '{}' FROM generate_series(1, 20000) AS n",
        "ANALYZE preferences",
    )

    cost = rows_read(notifications_db, lambda session: preferences.of(session, {(org_id, reader)}))

    assert cost < 500


# --- tips -------------------------------------------------------------------------------------------------------


def test_a_tip_reaches_those_who_want_tips_once(notifications_db, org_id):
    reader, other_org = a_member(notifications_db, org_id), new_id("org")
    choose(notifications_db, org_id, reader, email={"tips_and_best_practices": True})
    a_member(notifications_db, org_id)
    late = a_member(notifications_db, other_org)
    tip = {"tip_id": "tip_1", "subject": "Better photos", "paragraphs": ["Open the curtains."]}

    first = tips.send(notifications_db, **tip)
    made = [tips.spread(notifications_db) for _ in range(2)]
    choose(notifications_db, other_org, late, email={"tips_and_best_practices": True})
    again = tips.send(notifications_db, **tip)
    made.append(tips.spread(notifications_db))

    assert (first["mails"], again["mails"]) == (1, 1)
    assert made == [1, 0, 1]
    assert [recipient for recipient, _ in of_kind(notifications_db, "tips")] == [
        f"{reader}@example.com",
        f"{late}@example.com",
    ]


def test_a_tip_for_many_is_mailed_some_at_a_time_and_kept_once(notifications_db, org_id, monkeypatch, tmp_path):
    monkeypatch.setattr(tips, "AT_ONCE", 2)
    readers = [a_member(notifications_db, org_id) for _ in range(5)]
    for reader in readers:
        choose(notifications_db, org_id, reader, email={"tips_and_best_practices": True})
    tips.send(notifications_db, tip_id="tip_1", subject="Better photos", paragraphs=["Open the curtains."])

    assert tips.spread(notifications_db) == 5
    with mailing_by(notifications_db, Folder(tmp_path)):
        until(lambda: len(list(tmp_path.glob("*.eml"))) == 10)  # and five that preferences were changed

    written = [file.read_text() for file in tmp_path.glob("*.eml")]
    assert len([text for text in written if "Open the curtains." in text]) == 5
    assert of_kind(notifications_db, "tips") == [
        (recipient, {"tip_id": "tip_1"}) for recipient, _ in of_kind(notifications_db, "tips")
    ]


def test_replicas_that_spread_a_tip_at_once_make_each_mail_once(notifications_db, org_id, monkeypatch):
    monkeypatch.setattr(tips, "AT_ONCE", 1)
    for _ in range(6):
        choose(notifications_db, org_id, a_member(notifications_db, org_id), email={"tips_and_best_practices": True})
    tips.send(notifications_db, tip_id="tip_1", subject="Better photos", paragraphs=["Open the curtains."])
    threads = [threading.Thread(target=tips.spread, args=(notifications_db,)) for _ in range(3)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(of_kind(notifications_db, "tips")) == 6


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
        tips.send(notifications_db, tip_id="tip_1", **tip)
