"""A session is told of as one: one message and one mail, whatever its jobs are told in, and however often."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from services.notifications import channels, inbox, sessions, telling
from services.notifications.channels import Told
from shared import events
from shared.ids import new_id
from tests.service.notifications.mails import rows
from tests.service.notifications.test_telling import a_member, choose, messages, tell
from tests.service.notifications.told import batch, finished

SUMMER = {"workflow": "studio", "session_name": "Summer Catalog 2026"}


@pytest.fixture
def org_id():
    return new_id("org")


@pytest.fixture
def user_id(notifications_db, org_id):
    return a_member(notifications_db, org_id)


@pytest.fixture
def ended(org_id, user_id):
    """Return how a job of a session has ended; the same session unless said."""
    known = {"user_id": user_id, "session_id": new_id("stu"), **SUMMER}
    return lambda succeeded, failed, **fields: finished(
        org_id,
        **{"status": "partially_succeeded", **known, "succeeded": succeeded, "failed": failed, **fields},
    )


def told_again(item):
    """Return the same end in another event, as the engine tells it again when it is asked."""
    return events.with_meta(item, events.correlated(new_id("req")))


def texts(db, org_id, user_id):
    return [message["text"] for message in messages(db, org_id, user_id)["data"]]


def mailed(db):
    return [tuple(row) for row in rows(db, "kind, facts ->> 'text', status")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_a_retry_adds_to_what_there_is_and_asks_for_no_more(notifications_db, org_id, user_id, ended, order, together):
    first = ended(170, 10)
    retry = ended(6, 4, retry_of=first.job_id)
    last = ended(1, 3, retry_of=retry.job_id)
    items = [(first, retry, last)[number] for number in order]
    several = [*items, *map(told_again, items)]

    for part in [several] if together else [[each] for each in several]:
        tell(notifications_db, *part)

    text = "StudioSession 'Summer Catalog 2026' complete! 177 of 180 images generated."
    assert texts(notifications_db, org_id, user_id) == [text]
    assert mailed(notifications_db) == [("generation_completed", text, "pending")]


def test_further_jobs_of_a_session_add_to_what_was_asked_for(notifications_db, org_id, user_id, ended):
    for _ in range(3):
        tell(notifications_db, ended(2, 0))
    tell(notifications_db, ended(4, 0, session_id=new_id("stu"), session_name="Winter"))

    assert texts(notifications_db, org_id, user_id) == [
        "StudioSession 'Winter' complete! 4 of 4 images generated.",
        "StudioSession 'Summer Catalog 2026' complete! 6 of 6 images generated.",
    ]


def test_what_went_on_is_unread_again_and_what_is_told_again_is_not(notifications_db, org_id, user_id, ended):
    first, winter = ended(170, 10), ended(4, 0, session_id=new_id("stu"), session_name="Winter")
    tell(notifications_db, first)
    tell(notifications_db, winter)
    mine = {"org_id": org_id, "user_id": user_id}

    inbox.mark_read(notifications_db, **mine)
    tell(notifications_db, told_again(first))
    unread_before = messages(notifications_db, **mine)["unread"]
    tell(notifications_db, retry := ended(0, 10, retry_of=first.job_id, status="failed"))
    newest, other = messages(notifications_db, **mine)["data"]

    assert unread_before == 0
    assert (newest["text"], newest["job_id"], newest["read_at"]) == (
        "StudioSession 'Summer Catalog 2026' complete! 170 of 180 images generated.",
        retry.job_id,
        None,
    )
    assert (other["job_id"], other["read_at"] is None) == (winter.job_id, False)


@pytest.mark.parametrize(
    "left",
    [
        "status = 'sent', ended_at = now(), attempt = 1",
        "attempt = 1",  # and the answer lost: it may have left, and whoever has it gets the same again
    ],
)
def test_a_mail_that_may_have_left_is_the_only_one_and_stays_as_it_is(notifications_db, ended, left):
    tell(notifications_db, ended(1, 0))
    with notifications_db.transaction() as session:
        session.execute(sa.text(f"UPDATE mails SET {left}"))

    tell(notifications_db, ended(1, 0))

    ((kind, text, _),) = mailed(notifications_db)
    assert kind == "generation_completed"
    assert text.endswith("1 of 1 images generated.")


def test_a_mail_that_waits_for_the_daily_digest_says_what_is_by_then(notifications_db, org_id, user_id, ended):
    choose(notifications_db, org_id, user_id, frequency="daily_digest")

    tell(notifications_db, ended(1, 0))
    tell(notifications_db, ended(1, 0))

    (gathered,) = [each for each in mailed(notifications_db) if each[2] == "gathered"]
    assert gathered[1].endswith("2 of 2 images generated.")


@pytest.mark.parametrize(("left", "statuses"), [(False, ["cancelled", "pending"]), (True, ["sent", "pending"])])
def test_a_session_that_failed_and_is_complete_after_all_says_so(
    notifications_db, org_id, user_id, ended, left, statuses
):
    failed = ended(0, 2, status="failed")
    tell(notifications_db, failed)
    before = texts(notifications_db, org_id, user_id)
    if left:
        with notifications_db.transaction() as session:
            session.execute(sa.text("UPDATE mails SET status = 'sent', ended_at = now()"))

    tell(notifications_db, ended(2, 0, retry_of=failed.job_id, status="succeeded"))
    tell(notifications_db, told_again(failed))

    assert before == ["StudioSession 'Summer Catalog 2026' failed. 0 of 2 images generated."]
    assert texts(notifications_db, org_id, user_id) == [
        "StudioSession 'Summer Catalog 2026' complete! 2 of 2 images generated."
    ]
    assert [(kind, status) for kind, _, status in mailed(notifications_db)] == [
        ("generation_failed", statuses[0]),
        ("generation_completed", statuses[1]),
    ]


def test_two_that_end_at_the_same_time_are_both_counted(notifications_db, org_id, user_id, ended):
    jobs = [ended(1, 0) for _ in range(12)]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(partial(tell, notifications_db), jobs))

    (text,) = texts(notifications_db, org_id, user_id)
    assert text.endswith("12 of 12 images generated.")


@pytest.mark.parametrize(
    "fields", [{"status": "rejected"}, {"livemode": False}, {"workflow": "studio_analysis"}, {"session_id": None}]
)
def test_what_is_no_part_of_the_session_does_not_count(notifications_db, org_id, user_id, ended, fields):
    tell(notifications_db, ended(0, 5, **fields), ended(2, 0))

    assert "StudioSession 'Summer Catalog 2026' complete! 2 of 2 images generated." in texts(
        notifications_db, org_id, user_id
    )


def test_what_was_cancelled_counts_but_is_no_news(notifications_db, org_id, user_id, ended):
    tell(notifications_db, ended(5, 5, status="cancelled"))
    before = texts(notifications_db, org_id, user_id)
    tell(notifications_db, ended(2, 0))

    assert before == []
    assert texts(notifications_db, org_id, user_id)[0].endswith("7 of 12 images generated.")


def test_a_session_of_the_same_id_elsewhere_is_another(notifications_db, org_id, user_id, ended):
    tell(notifications_db, ended(2, 0, session_id="stu_1"))
    tell(notifications_db, finished(new_id("org"), user_id=user_id, session_id="stu_1", succeeded=3, **SUMMER))

    assert texts(notifications_db, org_id, user_id)[0].endswith("2 of 2 images generated.")


def test_each_who_asked_for_a_part_is_told_of_the_whole(notifications_db, org_id, user_id, ended):
    other = a_member(notifications_db, org_id)

    tell(notifications_db, ended(2, 0), ended(3, 0, user_id=other))

    for each in (user_id, other):
        (text,) = texts(notifications_db, org_id, each)
        assert text.endswith("5 of 5 images generated.")


def test_an_owner_who_is_told_as_such_and_as_who_asked_is_told_once(notifications_db, org_id, ended):
    owner = a_member(notifications_db, org_id, role="owner")

    tell(notifications_db, ended(2, 0, user_id=owner), ended(3, 0, user_id=None))

    assert len(texts(notifications_db, org_id, owner)) == 1


def test_sessions_of_which_nothing_has_ended_for_long_are_forgotten_as_a_whole(notifications_db, org_id, ended):
    old, going_on = new_id("stu"), new_id("stu")
    long_ago = {"noted_at": datetime.now(UTC) - timedelta(days=91), "completed": True}
    counts = {"succeeded": 1, "failed": 0, "fallbacks": 0}
    with notifications_db.transaction() as session:
        for session_id in (old, going_on):
            job = {"org_id": org_id, "job_id": new_id("job"), "session_id": session_id}
            session.add(sessions.EndedJob(**job, **counts, **long_ago))
    tell(notifications_db, ended(1, 0, session_id=going_on))

    sessions.sweep(notifications_db)

    with notifications_db.transaction() as session:
        kept = session.scalars(sa.select(sessions.EndedJob.session_id)).all()
    assert list(kept) == [going_on] * 2


# --- made by others than were asked -----------------------------------------------------------------------------


def test_a_job_that_others_made_a_part_of_says_so_in_its_one_message(notifications_db, org_id, user_id):
    tell(notifications_db, finished(org_id, user_id=user_id, succeeded=8, fallbacks=3))

    text = "Staging complete! 8 of 8 images generated. 3 of them were made by another AI service than was asked first."
    assert texts(notifications_db, org_id, user_id) == [text]
    assert mailed(notifications_db) == [("generation_completed", text, "pending")]


def test_a_session_adds_up_what_others_made(notifications_db, org_id, user_id, ended):
    tell(notifications_db, ended(2, 0, fallbacks=1))
    tell(notifications_db, ended(2, 0))

    assert texts(notifications_db, org_id, user_id)[0].endswith(
        "4 of 4 images generated. 1 of them was made by another AI service than was asked first."
    )


def test_an_analysis_that_is_not_told_as_such_is_told_where_another_made_it(notifications_db, org_id, user_id, ended):
    step = {"workflow": "studio_analysis", "status": "succeeded"}

    tell(notifications_db, ended(1, 0, **step), ended(1, 0, **step, fallbacks=1), ended(1, 0, **step, fallbacks=1))

    assert texts(notifications_db, org_id, user_id) == [
        "Studio analysis was done by another AI service than was asked first."
    ]
    assert mailed(notifications_db) == []


# --- channels ---------------------------------------------------------------------------------------------------


def test_a_channel_more_is_an_entry_more(notifications_db, org_id, user_id, ended):
    pushed: list[Told] = []
    several = {**channels.CHANNELS, "push": lambda _db, _session, told: pushed.extend(told)}
    hear = partial(telling.tell, notifications_db, channels=several)

    for item in (done := ended(2, 0), done, ended(1, 0)):
        notifications_db.once(batch(item, consumer="notifications.on_news"), hear)

    assert [(each.to.user_id, each.notice.text.partition("! ")[2]) for each in pushed] == [
        (user_id, "2 of 2 images generated."),
        (user_id, "3 of 3 images generated."),
    ]
    assert pushed[0].wanted["browser"]["generation_completed"] is True
    assert len(texts(notifications_db, org_id, user_id)) == len(mailed(notifications_db)) == 1


def test_what_no_channel_adds_is_nowhere(notifications_db, org_id, user_id, ended):
    hear = partial(telling.tell, notifications_db, channels={})

    notifications_db.once(batch(ended(2, 0), consumer="notifications.on_news"), hear)

    assert texts(notifications_db, org_id, user_id) == mailed(notifications_db) == []
