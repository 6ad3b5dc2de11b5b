"""The demo tells the truth: it ends well only if everything it was promised was kept."""

from hashlib import sha256

import pytest

from darkroom_client import Darkroom, DarkroomError
from tests.fakes import FakeGateway
from tools import demo_story
from tools.demo_story import DemoFailed, stage


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(demo_story, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(demo_story, "PATIENCE_SECONDS", 0.2)


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def told(gateway, tmp_path):
    """Let the story be told; return its outcome and its lines."""
    photo = tmp_path / "room.jpg"
    photo.write_bytes(b"a room")

    def tell():
        lines = []
        with gateway.running() as url, Darkroom("sk_live_x", base_url=url, retry_seconds=0) as darkroom:
            outcome = stage(darkroom, photo, folder=tmp_path, say=lines.append)
        return outcome, lines

    return tell


def test_the_variants_are_written_as_they_were_promised(gateway, told):
    outcome, _ = told()

    assert [file.read_bytes() for file in outcome.files] == gateway.contents
    assert [file.name for file in outcome.files] == ["staged-1.jpg", "staged-2.jpg"]
    assert outcome.available == 980


def test_the_story_names_price_job_and_balance(told):
    _, lines = told()

    story = "\n".join(lines)
    assert "2 staged variants at 10 credits each will cost 20" in story
    assert "job job_1 is accepted; 20 credits are held" in story
    assert "the balance went from 1000 to 980" in story


def test_what_holds_credits_can_be_sent_again_and_the_links_need_no_key(gateway, told):
    told()

    sent = {path.partition("?")[0]: headers for _, path, headers, _ in gateway.requests}
    assert sent["/v1/stagings"]["Idempotency-Key"]
    assert sent["/v1/stagings"]["Authorization"] == "Bearer sk_live_x"
    assert sent["/v1/uploads"]["Content-Type"] == "image/jpeg"
    assert "Authorization" not in sent["/files/0"]


def wrong_digest(gateway):
    gateway.images[1]["sha256"] = "0" * 64


def wrong_size(gateway):
    gateway.images[0]["bytes"] += 1


def wrong_type(gateway):
    gateway.images[0]["content_type"] = "image/png"


def another_size_of_picture(gateway):
    gateway.images[0]["width"] += 1


def one_image_missing(gateway):
    gateway.images.pop()


def the_same_image_twice(gateway):
    """Give it in two files, each of which says something else."""
    gateway.contents[1] = gateway.contents[0] + b"told otherwise"
    gateway.images[1] |= {"bytes": len(gateway.contents[1]), "sha256": sha256(gateway.contents[1]).hexdigest()}


def charged_too_much(gateway):
    gateway.job["charged"] = 30


def a_refund_nobody_asked_for(gateway):
    gateway.job["refunded"] = 10


def a_balance_that_fell_too_far(gateway):
    gateway.after["available"] = 970


def credits_that_stay_held(gateway):
    gateway.after["held"] = 10


def a_job_that_never_ends(gateway):
    gateway.job.update(status="running", finished_at=None)


def too_little_to_pay_with(gateway):
    gateway.before["available"] = 19


@pytest.mark.parametrize(
    ("breach", "told_as"),
    [
        (wrong_digest, "is not what was promised"),
        (wrong_size, "is not what was promised"),
        (wrong_type, "is not what the API says"),
        (another_size_of_picture, "is not what the API says"),
        (one_image_missing, "has 1 images, not 2"),
        (the_same_image_twice, "one and the same picture"),
        (charged_too_much, "charged 30 and refunded 0 credits, not 20 and 0"),
        (a_refund_nobody_asked_for, "charged 20 and refunded 10"),
        (a_balance_that_fell_too_far, "went down by 30 credits, not by 20"),
        (credits_that_stay_held, "10 credits are still held"),
        (a_job_that_never_ends, "is still running"),
        (too_little_to_pay_with, "does not pay for it"),
    ],
)
def test_a_promise_that_was_not_kept_ends_the_demo(gateway, told, breach, told_as):
    breach(gateway)

    with pytest.raises((DemoFailed, DarkroomError), match=told_as):
        told()


def test_a_job_that_failed_is_told_with_its_reason(gateway, told):
    gateway.job["status"] = "failed"

    with pytest.raises(DemoFailed, match="ended failed: The room is too dark"):
        told()


def test_a_refusal_is_told_with_the_gateways_own_words(gateway, told):
    gateway.refusals = [503]

    with pytest.raises(DarkroomError, match="503 refused: Not today"):
        told()


def test_a_gateway_that_is_not_there_is_told(tmp_path):
    darkroom = Darkroom("sk_live_x", base_url="http://127.0.0.1:1", retry_seconds=0)

    with pytest.raises(DarkroomError, match="no answer"):
        stage(darkroom, tmp_path / "room.jpg", folder=tmp_path, say=print)
