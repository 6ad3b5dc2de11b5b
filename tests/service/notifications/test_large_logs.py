"""A log of any size costs whoever asks for a part of it only that part."""

import pytest

from services.notifications import activity, log
from shared.ids import new_id
from tests.service.notifications.costs import rows_read
from tests.service.notifications.hooks import tell as record
from tests.service.notifications.test_activity import accepted, sentences
from tests.service.notifications.told import finished, started

EVENTS = 50_000


@pytest.fixture
def org_id():
    return new_id("org")


@pytest.fixture
def large(tamper, org_id):
    """Return a function that lets a log have had many events, of which nothing is told, after the ones it has."""

    def make(*, of_test_key="false", told="false"):
        tamper(
            "INSERT INTO recorded_events (org_id, sequence, event_id, type, body, of_test_key, told)"
            f" SELECT '{org_id}', 1000 + n, 'evt_' || n, 'GenerationStarted',"
            f' \'{{"time": "2031-05-01T12:00:00Z", "data": {{}}}}\', {of_test_key}, {told}'
            f" FROM generate_series(1, {EVENTS}) AS n",
            f"UPDATE event_sequences SET last = {1000 + EVENTS} WHERE org_id = '{org_id}'",
            "ANALYZE recorded_events",
        )

    return make


def test_what_a_test_key_made_is_found_among_everything_else(notifications_db, org_id, large):
    record(notifications_db, finished(org_id), finished(org_id, livemode=False))
    large()
    record(notifications_db, finished(org_id, livemode=False))
    found = []

    cost = rows_read(
        notifications_db,
        lambda session: found.append(log.events(session, org_id=org_id, livemode=False)),
        org_id=org_id,
    )

    assert [item["id"] for item in found[0]["data"]] == ["2", str(1000 + EVENTS + 1)]
    assert cost < 500


def test_how_far_a_log_goes_is_known_without_reading_it(notifications_db, org_id, large):
    record(notifications_db, started(org_id))
    large()
    found = []

    cost = rows_read(
        notifications_db,
        lambda session: found.append(log.events(session, org_id=org_id, after="9" * 18, types=["JobFinished"])),
        org_id=org_id,
    )

    assert (found[0]["data"], found[0]["has_more"], found[0]["last"]) == ([], False, str(1000 + EVENTS))
    assert cost < 500


@pytest.mark.parametrize("asked", [{}, {"session_id": "ses_1"}, {"job_id": "job_1"}], ids=["all", "session", "job"])
@pytest.mark.parametrize("livemode", [True, None])
def test_few_things_that_are_told_are_found_in_a_large_log(notifications_db, org_id, large, asked, livemode):
    record(
        notifications_db,
        accepted(org_id, None, job_id="job_1"),
        finished(org_id, job_id="job_1", session_id="ses_1", session_name="Elm Street 4"),
    )
    large()
    found = []

    cost = rows_read(
        notifications_db,
        lambda session: found.append(activity.activity(session, org_id=org_id, livemode=livemode, **asked)),
        org_id=org_id,
    )

    assert sentences(found[0]) == [
        "Staging session 'Elm Street 4' was completed, with 2 of 2 images generated",
        "The API asked for 2 images (staging)",
    ]
    assert cost < 500


def test_a_session_is_found_in_a_log_that_tells_much_else(notifications_db, org_id, large):
    record(
        notifications_db,
        accepted(org_id, None, job_id="job_1"),
        finished(org_id, job_id="job_1", session_id="ses_1"),
    )
    large(told="true")

    cost = rows_read(
        notifications_db,
        lambda session: activity.activity(session, org_id=org_id, livemode=True, session_id="ses_1"),
        org_id=org_id,
    )

    assert cost < 500


def test_large_events_make_a_page_of_the_story_shorter_and_none_is_left_out(notifications_db, org_id, monkeypatch):
    jobs = [finished(org_id, lines=[], session_name=f"Street {number}" + "x" * 5_000) for number in range(6)]
    record(notifications_db, *jobs)
    monkeypatch.setattr(log, "PAGE_BYTES", 12_000)

    pages, after = [], None
    while not pages or pages[-1]["has_more"]:
        with notifications_db.transaction(org_id=org_id) as session:
            pages.append(activity.activity(session, org_id=org_id, after=after))
        after = pages[-1]["next_cursor"]

    assert [len(page["data"]) for page in pages] == [2, 2, 2]


def test_an_event_recorded_before_its_type_got_a_field_is_told(notifications_db, org_id, tamper):
    record(notifications_db, finished(org_id))
    tamper("UPDATE recorded_events SET body = CAST(CAST(body AS jsonb) #- '{data,session_name}' AS text)")

    with notifications_db.transaction(org_id=org_id) as session:
        page = activity.activity(session, org_id=org_id)

    assert sentences(page) == ["Staging was completed, with 2 of 2 images generated"]
