"""The story of an organization in sentences."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.notifications import story
from services.notifications.story import Happened, tell
from shared import events
from shared.event_samples import sample_of

AT = datetime(2031, 5, 1, 14, 30, tzinfo=UTC)
NAMES = {"usr_anna": "Anna", "usr_ben": "Ben"}


def happened(kind, /, *, number=1, minutes=0, **data):
    return Happened(sequence=number, type=kind, time=AT - timedelta(minutes=minutes), data=data)


def uploaded(*, number=1, minutes=0, user_id="usr_anna", purpose="product"):
    return happened("AssetUploaded", number=number, minutes=minutes, user_id=user_id, purpose=purpose)


def product_changed(change, *, number=1, minutes=0, user_id="usr_anna"):
    return happened("ProductChanged", number=number, minutes=minutes, user_id=user_id, change=change)


def view_added(*, number=1, minutes=0, user_id="usr_anna", image_id=None):
    return happened("ProductViewAdded", number=number, minutes=minutes, user_id=user_id, image_id=image_id)


def session_changed(change, **data):
    known = {"user_id": "usr_anna", "session_id": "ses_1", "session_name": "Elm Street 4"}
    return happened("StagingSessionChanged", change=change, **{**known, **data})


def told(*items, zone=UTC):
    return [line.text for line in tell(items, names=NAMES, zone=zone)]


def finished(status, **data):
    known = {"workflow": "studio", "session_name": "Summer", "succeeded": 176, "failed": 4}
    return happened("JobFinished", status=status, **{**known, **data})


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (uploaded(), "Anna uploaded 1 product photo at 2:30 PM"),
        (uploaded(user_id=None, purpose="room"), "The API uploaded 1 room photo at 2:30 PM"),
        (uploaded(user_id="usr_gone"), "Somebody uploaded 1 product photo at 2:30 PM"),
        (happened("OrganizationCreated"), "The organization was created at 2:30 PM"),
        (
            happened("MemberInvited", user_id="usr_x", inviter_name="Anna", invited_by="usr_anna", role="viewer"),
            "Anna invited somebody as viewer at 2:30 PM",
        ),
        (happened("MemberJoined", user_id="usr_ben", name="Ben", role="editor"), "Ben joined as editor at 2:30 PM"),
        (
            happened("MemberChanged", user_id="usr_ben", role="owner", changed_by="usr_anna"),
            "Anna made Ben owner at 2:30 PM",
        ),
        (
            happened("MemberRemoved", user_id="usr_ben", removed_by="admin:root"),
            "An administrator removed Ben at 2:30 PM",
        ),
        (
            happened("PlanChanged", plan="pro", previous_plan="free", changed_by="usr_anna"),
            "Anna changed the plan from free to pro at 2:30 PM",
        ),
        (happened("CreditsGranted", amount=100, unit="credits"), "100 credits were added at 2:30 PM"),
        (happened("CreditsAdjusted", amount=-1, unit="credits"), "1 credit was taken back at 2:30 PM"),
        (
            happened("JobAccepted", user_id="usr_anna", workflow="staging", generations=2),
            "Anna asked for 2 images (staging) at 2:30 PM",
        ),
        (
            finished("partially_succeeded"),
            "StudioSession 'Summer' was completed, with 176 of 180 images generated at 2:30 PM",
        ),
        (
            finished("succeeded", workflow="empty_room", session_id="ses_1", failed=0),
            "Staging session 'Summer' was completed, with 176 of 176 images generated at 2:30 PM",
        ),
        (happened("JobStalled", workflow="day_to_dusk"), "Day to dusk came to a standstill at 2:30 PM"),
        (
            happened("GenerationFailed", workflow="staging", reason="provider_timeout"),
            "1 image (staging) was not generated (provider timeout) at 2:30 PM",
        ),
        (
            happened("GenerationFailed", workflow="staging", reason="cancelled_before_start"),
            "1 image (staging) was cancelled at 2:30 PM",
        ),
        (product_changed("created"), "Anna added 1 product at 2:30 PM"),
        (product_changed("updated", user_id=None), "The API changed 1 product at 2:30 PM"),
        (happened("ProductDeleted", user_id="usr_ben"), "Ben deleted 1 product at 2:30 PM"),
        (view_added(), "Anna added 1 view at 2:30 PM"),
        (view_added(image_id="img_1"), "Anna renewed 1 view at 2:30 PM"),
        (session_changed("created"), "Anna began the staging session 'Elm Street 4' at 2:30 PM"),
        (session_changed("created", session_name=None), "Anna began a staging session at 2:30 PM"),
        (session_changed("changed"), "Anna changed the staging session 'Elm Street 4' at 2:30 PM"),
        (session_changed("selected"), "Anna chose the empty room of the staging session 'Elm Street 4' at 2:30 PM"),
        (session_changed("locked"), "Anna locked the empty room of the staging session 'Elm Street 4' at 2:30 PM"),
        (session_changed("deleted"), "Anna deleted the staging session 'Elm Street 4' at 2:30 PM"),
        (finished("cancelled"), "StudioSession 'Summer' was cancelled, with 176 of 180 images generated at 2:30 PM"),
    ],
)
def test_each_kind_of_event_has_its_sentence(item, sentence):
    assert told(item) == [sentence]


def test_a_failure_that_stands_for_all_of_its_job_says_how_many():
    failed = happened("GenerationFailed", workflow="studio", reason="provider_timeout")

    (line,) = tell([replace(failed, count=4)], names=NAMES, zone=UTC)

    assert line.text == "4 images (studio) were not generated (last: provider timeout) at 2:30 PM"
    assert line.count == 4


def test_several_in_a_row_by_one_person_are_one_sentence():
    items = [uploaded(number=20 - number, minutes=number) for number in range(10)]

    (line,) = tell(items, names=NAMES, zone=UTC)

    assert line.text == "Anna uploaded 10 product photos at 2:30 PM"
    assert (line.count, line.sequence, line.time) == (10, 11, AT)


def test_products_with_their_photos_and_views_in_turns_are_one_sentence():
    items = [
        item
        for number in range(10)
        for item in (view_added(minutes=number), product_changed("created", minutes=number), uploaded(minutes=number))
    ]

    (line,) = tell(items, names=NAMES, zone=UTC)

    assert line.text == "Anna uploaded 10 product photos and added 10 products and 10 views at 2:30 PM"
    assert line.count == 30


@pytest.mark.parametrize(
    "other",
    [product_changed("updated"), product_changed("created", user_id="usr_ben"), view_added(image_id="img_1")],
)
def test_what_was_done_otherwise_or_by_somebody_else_is_a_sentence_of_its_own(other):
    assert len(told(product_changed("created"), other, product_changed("created"))) == 3


@pytest.mark.parametrize(
    "other",
    [
        uploaded(user_id="usr_ben"),
        uploaded(purpose="room"),
        uploaded(minutes=11),
        happened("MemberJoined", user_id="usr_ben", name="Ben", role="editor"),
    ],
)
def test_what_differs_is_a_sentence_of_its_own(other):
    assert len(told(uploaded(), other)) == 2


def test_the_time_is_the_readers():
    assert told(uploaded(), zone=ZoneInfo("America/New_York")) == ["Anna uploaded 1 product photo at 10:30 AM"]


def test_a_name_stays_within_its_sentence():
    (text,) = told(happened("MemberJoined", user_id="usr_x", name="Eve\nBen left" + "!" * 500, role="editor"))

    assert "\n" not in text
    assert len(text) < 200


def test_every_event_of_the_log_has_a_sentence_or_a_reason_why_not():
    logged = [cls.__name__ for cls in events.logged()]

    assert sorted([*story.TOLD_TYPES, *story.NOT_TOLD]) == sorted(logged)
    assert all(story.NOT_TOLD.values())


@pytest.mark.parametrize("kind", story.TOLD_TYPES)
def test_every_told_type_exists_is_public_and_can_be_told_of_its_sample(kind):
    cls = events.types[kind]
    sample = sample_of(cls)["data"]
    public = {name: sample[name] for name in events.public_fields(cls)}

    (line,) = tell([happened(kind, **public)], names={}, zone=UTC)

    assert cls in events.logged()
    assert line.text.endswith("at 2:30 PM")
    assert "None" not in line.text
