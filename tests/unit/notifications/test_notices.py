"""What is worth telling, in the words of the product documents."""

import pytest

from services.notifications.notices import Standing, label, notice_of
from shared import events
from shared.events import JobFinished, QuotaThresholdReached, WebhookEndpointDisabled


def ended(**fields):
    known = {
        "job_id": "job_1",
        "org_id": "org_1",
        "user_id": "usr_1",
        "workflow": "studio",
        "status": "partially_succeeded",
        "succeeded": 176,
        "failed": 4,
        "lines": [],
        "session_id": "stu_1",
        "session_name": "Summer Catalog 2026",
    }
    return JobFinished(**{**known, **fields})


def quota(**fields):
    known = {"org_id": "org_1", "percent": 80, "used": 80, "limit": 100}
    return QuotaThresholdReached(
        **{**known, **fields}, period_start="2031-05-01T00:00:00Z", resets_at="2031-06-01T00:00:00Z"
    )


def test_a_session_that_is_complete_is_told_in_the_words_of_the_documents():
    notice = notice_of(ended())

    assert notice.text == "StudioSession 'Summer Catalog 2026' complete! 176 of 180 images generated."
    assert (notice.kind, notice.user_id, notice.session_id) == ("generation_completed", "usr_1", "stu_1")


def test_a_job_without_a_session_is_called_by_what_it_does():
    notice = notice_of(ended(workflow="day_to_dusk", session_name=None, succeeded=2, failed=0, status="succeeded"))

    assert notice.text == "Day to dusk complete! 2 of 2 images generated."


@pytest.mark.parametrize("status", ["failed", "expired"])
def test_a_failure_is_told_of_the_job_only(status):
    notice = notice_of(ended(status=status, succeeded=0, failed=180))

    assert notice.text == "StudioSession 'Summer Catalog 2026' failed. 0 of 180 images generated."
    assert notice.email_kind == "generation_failed"


@pytest.mark.parametrize("status", ["cancelled", "rejected"])
def test_what_whoever_asked_for_it_knows_already_is_not_told(status):
    assert notice_of(ended(status=status)) is None


def test_what_a_test_key_asked_for_is_told_to_nobody():
    assert notice_of(ended(livemode=False)) is None


@pytest.mark.parametrize("workflow", ["studio_analysis", "inspiration_analysis", "tech_pack_category"])
def test_a_step_on_the_way_is_not_told(workflow):
    assert notice_of(ended(workflow=workflow)) is None


def test_the_same_job_is_the_same_notice_however_often_its_end_is_told():
    again = events.with_meta(ended(), events.correlated("req_2"))

    assert notice_of(ended()).key == notice_of(again).key
    assert notice_of(ended(session_id=None)).key != notice_of(ended(session_id=None, job_id="job_2")).key


def test_jobs_of_one_session_are_one_notice_with_what_the_session_has_come_to():
    standing = Standing(job_id="job_2", completed=True, succeeded=178, total=180, fallbacks=2)

    notice = notice_of(ended(job_id="job_2", succeeded=2, failed=2), standing=standing)

    assert notice.text == (
        "StudioSession 'Summer Catalog 2026' complete! 178 of 180 images generated. "
        "2 of them were made by another AI service than was asked first."
    )
    assert (notice.key, notice.goes_on, notice.job_id) == (notice_of(ended()).key, True, "job_2")


@pytest.mark.parametrize(("fallbacks", "kind"), [(0, None), (1, "fallback")])
def test_a_step_on_the_way_is_told_where_another_did_it(fallbacks, kind):
    notice = notice_of(ended(workflow="inspiration_analysis", fallbacks=fallbacks))

    assert (notice and notice.kind) == kind


def test_a_quota_that_runs_low_is_told_to_the_owners_with_what_they_can_do_once_a_period():
    notice = notice_of(quota())

    assert notice.text == (
        "You have used 80 % of this month's 100 generations; 20 are left. Upgrade your plan to go on without a limit."
    )
    assert notice.user_id is None
    assert notice.key == notice_of(quota(used=85)).key
    assert notice.key != notice_of(quota(percent=100)).key


def test_a_quota_that_is_used_up_says_what_to_do():
    notice = notice_of(quota(percent=100, used=100))

    assert notice.text == (
        "You have used all of this month's 100 generations. Upgrade your plan to go on without a limit."
    )


def test_a_disabled_endpoint_is_told_to_the_owners():
    notice = notice_of(WebhookEndpointDisabled(endpoint_id="whe_1", org_id="org_1", reason="gone"))

    assert notice.text == "The webhook endpoint whe_1 was disabled: it answered that it is gone."
    assert notice.user_id is None


@pytest.mark.parametrize(
    ("session_id", "called"),
    [("ses_1", "Staging session 'Elm'"), ("stu_1", "StudioSession 'Elm'"), (None, "Session 'Elm'")],
)
def test_a_session_is_called_the_same_whatever_was_done_in_it(session_id, called):
    assert label("empty_room", "Elm", session_id=session_id) == called


@pytest.mark.parametrize(
    ("workflow", "name", "called"),
    [
        ("studio", "Summer", "StudioSession 'Summer'"),
        ("staging", "Elm Street 4", "Staging session 'Elm Street 4'"),
        ("headshot", None, "Headshot"),
        ("workflow_of_tomorrow", "X", "Session 'X'"),
    ],
)
def test_what_a_job_is_called(workflow, name, called):
    assert label(workflow, name) == called
