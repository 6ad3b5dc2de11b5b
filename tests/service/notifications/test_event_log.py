"""The log of events: what organizations may see, once each, in one gapless sequence per organization."""

import json
import threading
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from services.notifications import log, recording
from services.notifications.service import Notifications
from shared import events
from shared.database import Database
from shared.events import EventRecorded
from shared.ids import new_id
from shared.problems import BadRequest
from tests.service.notifications.told import batch, failed, finished, reserved, started
from tools.topology import bindings_of


def read(db: Database, org_id: str, **asked: Any) -> dict[str, Any]:
    with db.transaction(org_id=org_id) as session:
        return log.events(session, org_id=org_id, **asked)


def record(db: Database, *items: events.Event) -> None:
    db.once(batch(*items), partial(recording.record, db))


def told(db: Database) -> list[EventRecorded]:
    with db.transaction() as session:
        bodies = session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars()
        found = [events.decode(body.encode()) for body in bodies]
    return [item for item in found if isinstance(item, EventRecorded)]


@pytest.fixture
def age(tamper):
    """Return a function that makes events look as if they had been recorded so many days ago."""

    def make(*, days: int, up_to: int) -> None:
        tamper(f"UPDATE recorded_events SET recorded_at = now() - interval '{days} days' WHERE sequence <= {up_to}")

    return make


def test_every_public_event_of_an_organization_comes_to_the_log_in_one_queue():
    public = {name for name, cls in events.types.items() if cls.PUBLIC and "org_id" in cls.__struct_fields__}

    (binding,) = [
        item for item in bindings_of(Notifications, service="notifications") if item.queue == "notifications.on_event"
    ]

    assert set(binding.event_types or ()) == public
    assert {"JobFinished", "CreditReserved", "EmailSent"} <= public
    assert not {"EventRecorded", "ReservationOverdue"} & public


def test_events_of_two_organizations_are_numbered_from_one_each_in_the_order_they_came(notifications_db):
    first, second = new_id("org"), new_id("org")
    mine = [started(first) for _ in range(3)]
    others = [started(second) for _ in range(2)]

    record(notifications_db, mine[0], others[0], mine[1], mine[2], others[1])

    assert [item["event"]["id"] for item in read(notifications_db, first)["data"]] == [each.meta.id for each in mine]
    assert [item["id"] for item in read(notifications_db, first)["data"]] == ["1", "2", "3"]
    assert [item["id"] for item in read(notifications_db, second)["data"]] == ["1", "2"]


def test_an_event_that_comes_again_is_recorded_once_and_takes_no_number(notifications_db):
    org_id = new_id("org")
    first, second = started(org_id), started(org_id)

    record(notifications_db, first)
    record(notifications_db, first, second, second)

    page = read(notifications_db, org_id)
    assert [item["event"]["id"] for item in page["data"]] == [first.meta.id, second.meta.id]
    assert page["last"] == "2"
    assert [item.orgsequence for item in told(notifications_db)] == [1, 2]


def test_an_event_in_the_log_is_the_cloudevent_with_its_public_fields_only(notifications_db):
    org_id = new_id("org")
    failure = failed(org_id)

    record(notifications_db, failure)

    (item,) = read(notifications_db, org_id)["data"]
    event = item["event"]
    assert item["type"] == event["type"] == "GenerationFailed"
    assert item["time"] == event["time"] == failure.meta.time
    assert event["specversion"] == "1.0"
    assert event["source"] == "/darkroom/generation"
    assert event["subject"] == failure.generation_id
    assert event["orgid"] == org_id
    assert event["orgsequence"] == 1
    assert event["correlationid"] == failure.meta.correlation_id
    assert event["data"]["reason"] == "provider_error"
    assert "provider_cost_microusd" not in event["data"]
    assert "4711" not in json.dumps(event)


def test_values_inside_events_are_kept(notifications_db):
    org_id = new_id("org")
    hold = reserved(org_id)

    record(notifications_db, hold)

    (item,) = read(notifications_db, org_id)["data"]
    (line,) = hold.lines
    assert item["event"]["data"]["lines"] == [
        {"line_id": line.line_id, "sku": "staging.variant", "unit": "credits", "amount": 10}
    ]


def test_gateways_are_told_of_each_event_with_the_event_itself(notifications_db):
    org_id = new_id("org")
    done = finished(org_id, session_id="ses_1")

    record(notifications_db, done)

    (recorded,) = told(notifications_db)
    (item,) = read(notifications_db, org_id)["data"]
    assert recorded.event == item["event"]
    assert (recorded.org_id, recorded.orgsequence, recorded.type) == (org_id, 1, "JobFinished")
    assert (recorded.job_id, recorded.session_id) == (done.job_id, "ses_1")
    assert recorded.meta.causation_id == done.meta.id


def test_an_event_too_large_to_be_sent_along_is_to_be_read_from_the_log(notifications_db):
    org_id = new_id("org")
    lines = [events.SettledLine(line_id=new_id("gen"), outcome="captured", amount=1) for _ in range(1000)]

    record(notifications_db, finished(org_id, lines=lines))

    (recorded,) = told(notifications_db)
    assert recorded.event is None
    assert len(read(notifications_db, org_id)["data"][0]["event"]["data"]["lines"]) == 1000


def test_many_consumers_at_once_leave_no_gap_and_no_number_twice(notifications_db):
    organizations = [new_id("org") for _ in range(3)]
    batches = [[started(organizations[(turn + each) % 3]) for each in range(20)] for turn in range(24)]
    failures: list[BaseException] = []

    def consume(mine):
        try:
            for items in mine:
                record(notifications_db, *items)
        except BaseException as error:  # noqa: BLE001  told by the test below
            failures.append(error)

    threads = [threading.Thread(target=consume, args=(batches[number::8],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    for org_id in organizations:
        found: list[str] = []
        while page := read(notifications_db, org_id, after=found[-1] if found else "0", limit=200)["data"]:
            found += [item["id"] for item in page]
        assert found == [str(number) for number in range(1, 161)]


def test_a_reader_beside_writers_never_sees_a_number_before_all_smaller_ones(notifications_db):
    org_id = new_id("org")
    writing = [
        threading.Thread(target=lambda: [record(notifications_db, started(org_id)) for _ in range(25)])
        for _ in range(4)
    ]
    for thread in writing:
        thread.start()
    seen: list[int] = []
    while len(seen) < 100:
        page = read(notifications_db, org_id, after=str(seen[-1]) if seen else "0", limit=200)
        seen += [int(item["id"]) for item in page["data"]]
    for thread in writing:
        thread.join()

    assert seen == list(range(1, 101))


def test_a_transaction_that_fails_leaves_no_gap(notifications_db):
    org_id = new_id("org")

    def fail_after_recording(session, items):
        recording.record(notifications_db, session, items)
        raise ZeroDivisionError

    lost = started(org_id)
    record(notifications_db, started(org_id))
    with pytest.raises(ZeroDivisionError):
        notifications_db.once(batch(lost), fail_after_recording)
    record(notifications_db, started(org_id))
    record(notifications_db, lost)

    page = read(notifications_db, org_id)
    assert [item["id"] for item in page["data"]] == ["1", "2", "3"]
    assert page["data"][2]["event"]["id"] == lost.meta.id


def test_pages_follow_one_another_to_the_end(notifications_db):
    org_id = new_id("org")
    record(notifications_db, *[started(org_id) for _ in range(5)])

    first = read(notifications_db, org_id, limit=2)
    second = read(notifications_db, org_id, limit=2, after=first["next_cursor"])
    third = read(notifications_db, org_id, limit=2, after=second["next_cursor"])

    assert [item["id"] for page in (first, second, third) for item in page["data"]] == ["1", "2", "3", "4", "5"]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert third["next_cursor"] is None
    assert third["last"] == "5"


def test_a_page_is_never_larger_than_one_answer_can_carry(notifications_db, monkeypatch):
    org_id = new_id("org")
    lines = [events.SettledLine(line_id=new_id("gen"), outcome="captured", amount=1) for _ in range(50)]
    large = finished(org_id, lines=lines)
    monkeypatch.setattr(log, "PAGE_BYTES", 2000)
    record(notifications_db, started(org_id), large, started(org_id), started(org_id))

    pages, after = [], "0"
    while not pages or pages[-1]["has_more"]:
        pages.append(read(notifications_db, org_id, after=after))
        after = pages[-1]["next_cursor"]

    assert [[item["id"] for item in page["data"]] for page in pages] == [["1"], ["2"], ["3", "4"]]


def test_the_log_can_be_read_by_type_job_and_session(notifications_db):
    org_id = new_id("org")
    done = finished(org_id, session_id="ses_1")
    record(notifications_db, started(org_id), started(org_id, job_id=done.job_id), done, finished(org_id))

    def numbers(**filters):
        return [item["id"] for item in read(notifications_db, org_id, **filters)["data"]]

    assert numbers(types=["JobFinished"]) == ["3", "4"]
    assert numbers(job_id=done.job_id) == ["2", "3"]
    assert numbers(session_id="ses_1") == ["3"]
    assert numbers(types=["GenerationStarted"], job_id=done.job_id) == ["2"]
    assert read(notifications_db, org_id, session_id="ses_1")["last"] == "4"


def test_events_past_their_retention_are_deleted_and_their_numbers_never_given_again(notifications_db, age):
    org_id = new_id("org")
    record(notifications_db, *[started(org_id) for _ in range(4)])
    age(days=31, up_to=3)

    assert recording.sweep(notifications_db, days=30) == 3
    record(notifications_db, started(org_id))

    page = read(notifications_db, org_id)
    assert [item["id"] for item in page["data"]] == ["4", "5"]
    assert page["oldest"] == "4"


def test_who_began_first_and_wrote_last_is_later_in_time_as_in_number(notifications_db):
    org_id = new_id("org")
    with notifications_db.transaction() as session:
        session.execute(sa.text("SELECT now()"))
        record(notifications_db, started(org_id))
        recording.record(notifications_db, session, [started(org_id)])

    with notifications_db.transaction() as session:
        by_time = session.scalars(sa.text("SELECT sequence FROM recorded_events ORDER BY recorded_at")).all()
    assert by_time == [1, 2]


def test_a_sweep_takes_any_number_of_batches(notifications_db, age, monkeypatch):
    org_id = new_id("org")
    record(notifications_db, *[started(org_id) for _ in range(7)])
    age(days=31, up_to=6)
    monkeypatch.setattr(recording, "SWEPT_AT_ONCE", 2)

    assert recording.sweep(notifications_db, days=30) == 6


@pytest.mark.parametrize(
    ("after", "resync"),
    [("0", False), ("1", True), ("2", True), ("3", False), ("4", False), ("5", False), ("6", True)],
)
def test_a_cursor_behind_what_is_kept_or_beyond_the_end_asks_for_a_resync(notifications_db, age, after, resync):
    org_id = new_id("org")
    record(notifications_db, *[started(org_id) for _ in range(5)])
    age(days=31, up_to=3)
    recording.sweep(notifications_db, days=30)

    assert read(notifications_db, org_id, after=after)["resync"] is resync


def test_a_log_without_events_has_an_end_too(notifications_db):
    org_id = new_id("org")

    assert read(notifications_db, org_id) == {
        "data": [],
        "has_more": False,
        "next_cursor": None,
        "oldest": "1",
        "last": "0",
        "resync": False,
    }


@pytest.mark.parametrize("after", ["", "-1", "evt_1", "1.5", "٣", "9" * 19, "1; DROP TABLE recorded_events"])
def test_what_is_no_cursor_is_refused(notifications_db, after):
    with pytest.raises(BadRequest):
        read(notifications_db, new_id("org"), after=after)


def test_another_organization_reads_nothing_even_where_a_query_forgets_to_say_whose(notifications_db):
    org_id = new_id("org")
    record(notifications_db, started(org_id))

    with notifications_db.transaction(org_id=new_id("org")) as session:
        assert log.events(session, org_id=org_id)["data"] == []
        for table in ("recorded_events", "event_sequences"):
            assert session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


def test_a_tenant_cannot_write_to_the_log(notifications_db):
    org_id = new_id("org")
    record(notifications_db, started(org_id))

    for statement in (
        "DELETE FROM recorded_events",
        "UPDATE recorded_events SET body = '{}'",
        "UPDATE event_sequences SET last = 9",
    ):
        with pytest.raises(sa.exc.ProgrammingError), notifications_db.transaction(org_id=org_id) as session:
            session.execute(sa.text(statement))


def test_the_log_of_test_keys_is_apart_where_a_mode_is_asked_for(notifications_db):
    org_id = new_id("org")
    record(notifications_db, finished(org_id), finished(org_id, livemode=False), finished(org_id))

    seen = {mode: read(notifications_db, org_id, livemode=mode) for mode in (True, False, None)}

    assert {mode: [item["id"] for item in page["data"]] for mode, page in seen.items()} == {
        True: ["1", "3"],
        False: ["2"],
        None: ["1", "2", "3"],
    }
    assert {page["last"] for page in seen.values()} == {"3"}
