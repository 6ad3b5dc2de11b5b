"""The activity of an organization, read from its log."""

import pytest

from services.notifications import activity
from shared import events
from shared.events import AssetUploaded, JobAccepted, JobStalled, Meta, ProductChanged, StagingSessionChanged
from shared.ids import new_id
from shared.problems import BadRequest
from tests.service.notifications.hooks import tell as record
from tests.service.notifications.test_telling import a_member
from tests.service.notifications.told import failed, finished, started

POSING = 'Elm Street "change":"job_ended"'  # somebody's name for a session, which is no word of ours


@pytest.fixture
def org_id():
    return new_id("org")


def uploaded(org_id, user_id):
    return AssetUploaded(
        meta=events.correlated(None),
        asset_id=new_id("ast"),
        org_id=org_id,
        user_id=user_id,
        purpose="product",
        content_type="image/jpeg",
        bytes=1,
        sha256="0" * 64,
    )


def accepted(org_id, user_id, *, job_id):
    return JobAccepted(
        meta=events.correlated(None),
        job_id=job_id,
        org_id=org_id,
        user_id=user_id,
        workflow="staging",
        generations=2,
        deadline_at="2131-05-01T12:00:00Z",
    )


def product_added(org_id, user_id, *, at):
    return ProductChanged(
        meta=Meta(id=new_id("evt"), time=at),
        product_id=new_id("prd"),
        org_id=org_id,
        user_id=user_id,
        change="created",
        name="Oak chair",
        sku=None,
        category=None,
        room_types=[],
        version=1,
    )


def session_changed(org_id, change, *, session_id):
    return StagingSessionChanged(
        meta=events.correlated(None),
        session_id=session_id,
        org_id=org_id,
        user_id=None,
        session_name=POSING,
        change=change,
        status="draft",
        room_state="already_empty",
        empty_rooms=0,
        variants=0,
        image_id=None,
        version=1,
        created_at="2031-05-01T12:00:00Z",
    )


def stalled(org_id):
    return JobStalled(
        meta=events.correlated(None),
        job_id=new_id("job"),
        org_id=org_id,
        user_id=None,
        workflow="staging",
        since="2031-05-01T12:00:00Z",
        deadline_at="2131-05-01T12:00:00Z",
    )


def read(db, org_id, **asked):
    with db.transaction(org_id=org_id) as session:
        return activity.activity(session, org_id=org_id, **asked)


def sentences(page):
    return [item["text"].partition(" at ")[0] for item in page["data"]]


def test_the_story_is_told_newest_first_with_names(notifications_db, org_id):
    anna = a_member(notifications_db, org_id)
    job_id = new_id("job")
    record(notifications_db, *[uploaded(org_id, anna) for _ in range(10)])
    record(notifications_db, accepted(org_id, anna, job_id=job_id), started(org_id), finished(org_id, job_id=job_id))

    page = read(notifications_db, org_id)

    assert sentences(page) == [
        "Staging was completed, with 2 of 2 images generated",
        "Grace Hopper asked for 2 images (staging)",
        "Grace Hopper uploaded 10 product photos",
    ]
    assert page["data"][2]["count"] == 10
    assert page["data"][2]["actor_id"] == anna
    assert page["has_more"] is False


def test_a_session_has_its_own_story(notifications_db, org_id):
    job_id = new_id("job")
    record(
        notifications_db,
        accepted(org_id, None, job_id=job_id),
        accepted(org_id, None, job_id=new_id("job")),
        finished(org_id, job_id=job_id, session_id="ses_1", session_name="Elm Street 4"),
    )

    assert sentences(read(notifications_db, org_id, session_id="ses_1")) == [
        "Staging session 'Elm Street 4' was completed, with 2 of 2 images generated",
        "The API asked for 2 images (staging)",
    ]
    assert len(sentences(read(notifications_db, org_id, job_id=job_id))) == 2


def test_failures_are_one_sentence_a_job_whatever_happens_in_between(notifications_db, org_id):
    jobs = [new_id("job") for _ in range(2)]
    for number in range(5):
        for job_id in jobs[: 2 if number < 3 else 1]:
            record(notifications_db, failed(org_id, job_id=job_id))
            record(notifications_db, uploaded(org_id, new_id("usr")))

    page = read(notifications_db, org_id)
    of_failures = [
        (line["job_id"], line["count"], line["text"]) for line in page["data"] if "generated" in line["text"]
    ]

    assert [(job_id, count) for job_id, count, _ in of_failures] == [(jobs[0], 5), (jobs[1], 3)]
    assert of_failures[0][2].startswith("5 images (staging) were not generated (last: provider error) at ")
    assert len(page["data"]) == 8 + 2
    assert [line["count"] for line in read(notifications_db, org_id, job_id=jobs[1])["data"]] == [3]


def test_failures_are_told_on_one_page_only(notifications_db, org_id):
    job_ids = [new_id("job") for _ in range(3)]
    for job_id in [*job_ids, *reversed(job_ids), *job_ids]:
        record(notifications_db, failed(org_id, job_id=job_id))

    told, after = [], None
    while after is not None or not told:
        page = read(notifications_db, org_id, limit=1, after=after)
        told += [(line["job_id"], line["count"]) for line in page["data"]]
        after = page["next_cursor"]

    assert told == [(job_id, 3) for job_id in reversed(job_ids)]


def test_a_job_that_stands_still_is_told(notifications_db, org_id):
    record(notifications_db, stalled(org_id))

    assert sentences(read(notifications_db, org_id)) == ["Staging came to a standstill"]


def test_products_are_told_together_by_the_readers_clock(notifications_db, org_id):
    anna = a_member(notifications_db, org_id)
    record(notifications_db, *[product_added(org_id, anna, at="2031-05-01T18:30:00Z") for _ in range(10)])

    page = read(notifications_db, org_id, timezone="America/New_York")

    assert [(line["text"], line["count"]) for line in page["data"]] == [
        ("Grace Hopper added 10 products at 2:30 PM", 10)
    ]


def test_what_a_sessions_job_tells_is_not_told_of_the_session_too(notifications_db, org_id):
    job_id, session_id = new_id("job"), new_id("ses")
    for change in ("created", "job_accepted", "selected", "job_ended"):
        record(notifications_db, session_changed(org_id, change, session_id=session_id))
        if change == "job_accepted":
            record(notifications_db, accepted(org_id, None, job_id=job_id))
    record(notifications_db, finished(org_id, job_id=job_id, session_id=session_id, session_name=POSING))

    posing = f"'{POSING}'"
    assert sentences(read(notifications_db, org_id)) == [
        f"Staging session {posing} was completed, with 2 of 2 images generated",
        f"The API chose the empty room of the staging session {posing}",
        "The API asked for 2 images (staging)",
        f"The API began the staging session {posing}",
    ]


def test_pages_follow_one_another_to_the_beginning(notifications_db, org_id):
    for user_id in [new_id("usr") for _ in range(5)]:
        record(notifications_db, *[uploaded(org_id, user_id) for _ in range(3)])

    pages, after = [], None
    while not pages or pages[-1]["has_more"]:
        pages.append(read(notifications_db, org_id, limit=2, after=after))
        after = pages[-1]["next_cursor"]

    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    assert sum(item["count"] for page in pages for item in page["data"]) == 15


def test_an_organization_reads_its_own_story_only(notifications_db, org_id):
    record(notifications_db, finished(org_id))

    assert read(notifications_db, new_id("org"))["data"] == []


@pytest.mark.parametrize("asked", [{"after": "x"}, {"limit": 0}, {"limit": 201}])
def test_a_page_that_does_not_exist_is_refused(notifications_db, org_id, asked):
    with pytest.raises(BadRequest):
        read(notifications_db, org_id, **asked)
