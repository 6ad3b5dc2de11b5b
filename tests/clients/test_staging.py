"""Staging sessions and saved styles: what is sent, what comes back, and what a refusal says."""

import json
from typing import Any

import pytest

from darkroom_client import Conflict, StepNotAllowed
from tests.clients.answers import TIME, a_page, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted

SESSION: dict[str, Any] = {
    "id": "ses_1",
    "name": "Elm Street 4",
    "status": "selecting",
    "room_state": "generate_empty",
    "upload_id": "ast_1",
    "original_url": "https://files.example/a.jpg",
    "original": {"upload_id": "ast_1", "available": True, "delete_after": None, "deleted_at": None, "reason": None},
    "style": None,
    "room_type": None,
    "selected_image_id": None,
    "locked_at": None,
    "next_retry_number": 1,
    "free_retries_left": 2,
    "counts": {"empty_rooms": 1, "stagings": 0},
    "empty_rooms": [
        {
            "id": "gen_1",
            "job_id": "job_1",
            "status": "failed",
            "failure": {"reason": "provider_error", "message": "No.", "retryable": True},
            "images": [],
            "charged": 0,
            "retry_number": 0,
        }
    ],
    "stagings": [],
    "next_actions": [
        {"action": "generate_empty_room", "method": "POST", "path": "/x", "body": {"retry_number": 1}, "free": True}
    ],
    "user_id": "usr_1",
    "livemode": True,
    "version": 4,
    "created_at": TIME,
    "updated_at": TIME,
}
STYLE: dict[str, Any] = {
    "id": "sty_1",
    "name": "Ours",
    "base": "coastal",
    "words": "",
    "colours": ["#1d8c3a"],
    "livemode": True,
    "version": 1,
    "created_at": TIME,
    "updated_at": TIME,
}


def test_a_session_comes_back_with_what_is_allowed_next(play: Play) -> None:
    darkroom, _ = play(Scripted(body=SESSION))

    session = darkroom.staging_sessions.get("ses_1")

    assert (session.status, session.allowed, session.images) == ("selecting", ["generate_empty_room"], [])
    assert (session.next_actions[0].free, session.next_actions[0].body) == (True, {"retry_number": 1})
    assert session.empty_rooms[0].failure is not None


def test_only_what_is_to_change_is_sent_and_only_for_the_version_that_was_seen(play: Play) -> None:
    darkroom, server = play(Scripted(body=SESSION), Scripted(body=SESSION), Scripted(status=204))

    darkroom.staging_sessions.update("ses_1", style=None, version=4)
    darkroom.staging_sessions.select("ses_1", "img_1")
    darkroom.staging_sessions.delete("ses_1", version=4)

    assert [json.loads(asked.body) for asked in server.asked[:2]] == [{"style": None}, {"image_id": "img_1"}]
    assert [asked.headers.get("If-Match") for asked in server.asked] == ['"4"', None, '"4"']


def test_a_step_that_is_not_allowed_says_what_is(play: Play) -> None:
    about = {"session_status": "generating", "allowed": ["select_empty_room"], "next_retry_number": 1}
    darkroom, server = play(a_problem(409, "step_not_allowed", **about))

    with pytest.raises(StepNotAllowed) as refused:
        darkroom.staging_sessions.generate_empty_room("ses_1", retry_number=0)

    assert isinstance(refused.value, Conflict)
    assert refused.value.session_status == "generating"
    assert (refused.value.allowed, refused.value.next_retry_number) == (["select_empty_room"], 1)
    assert len(server.asked) == 1


def test_what_has_changed_meanwhile_is_a_conflict(play: Play) -> None:
    darkroom, _ = play(a_problem(412, "precondition_failed", current=SESSION))

    with pytest.raises(Conflict) as refused:
        darkroom.staging_sessions.lock("ses_1", version=3)

    assert refused.value.extra["current"]["version"] == 4


def test_a_session_is_begun_once_however_often_that_is_sent(play: Play) -> None:
    darkroom, server = play(None, Scripted(status=201, body=SESSION))

    darkroom.staging_sessions.create("ast_1", room_state="generate_empty")

    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
    assert len(server.asked) == 2


def test_styles_are_saved_and_listed(play: Play) -> None:
    darkroom, server = play(Scripted(status=201, body=STYLE), a_page(STYLE))

    saved = darkroom.styles.create("Ours", base="coastal", colours=("#1d8c3a",))
    (listed,) = darkroom.styles.list()

    assert saved == listed
    assert json.loads(server.asked[0].body) == {
        "name": "Ours",
        "base": "coastal",
        "words": "",
        "colours": ["#1d8c3a"],
    }
