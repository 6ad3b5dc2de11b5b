"""Refusals arrive as exceptions that say what the API said."""

import logging
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import darkroom_client
from darkroom_client import (
    AuthenticationFailed,
    Conflict,
    DailyCapReached,
    Darkroom,
    DarkroomError,
    HoldRefused,
    ImageRefused,
    InsufficientCredits,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    QuoteRefused,
    RateLimited,
    ServerFailed,
    UnexpectedAnswer,
)
from darkroom_client.errors import from_answer, retry_after_seconds
from tests.clients.answers import WALLET, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "validation_failed", InvalidRequest),
        (400, "idempotency_key_required", InvalidRequest),
        (401, "unauthenticated", AuthenticationFailed),
        (402, "insufficient_credits", InsufficientCredits),
        (402, "quota_exceeded", QuotaExceeded),
        (402, "daily_cap_reached", DailyCapReached),
        (402, "something_new", HoldRefused),
        (403, "not_invited", PermissionDenied),
        (404, "not_found", NotFound),
        (409, "conflict", Conflict),
        (409, "quote_expired", QuoteRefused),
        (415, "unsupported_image_type", ImageRefused),
        (422, "quote_mismatch", QuoteRefused),
        (422, "limit_exceeded", LimitExceeded),
        (422, "image_corrupt", ImageRefused),
        (429, "rate_limited", RateLimited),
        (500, "internal_error", ServerFailed),
        (418, "never_heard_of", InvalidRequest),
    ],
)
def test_a_code_has_its_class_and_a_new_one_that_of_its_status(status: int, code: str, kind: type) -> None:
    error = from_answer(status, {}, {"code": code, "detail": "No."})

    assert type(error) is kind
    assert (error.status, error.code, error.detail) == (status, code, "No.")


def test_a_short_balance_is_told_in_numbers(play: Play) -> None:
    darkroom, _ = play(a_problem(402, "insufficient_credits", required=40, available=30, max_affordable=3))

    with pytest.raises(InsufficientCredits) as caught:
        darkroom.jobs.create("staging", {})

    assert (caught.value.required, caught.value.available, caught.value.max_affordable) == (40, 30, 3)
    assert caught.value.request_id == "req_1"
    assert str(caught.value) == "402 insufficient_credits: No. (request req_1)"


def test_a_used_up_allowance_is_told_in_numbers() -> None:
    numbers = {"limit": 100, "used": 85, "requested": 180, "max_affordable": 15}
    error = from_answer(402, {}, {"code": "quota_exceeded", "detail": "No.", **numbers})

    assert isinstance(error, QuotaExceeded)
    assert {name: getattr(error, name) for name in numbers} == numbers == error.extra


def test_refused_fields_are_named() -> None:
    errors = [{"pointer": "/inputs/style", "code": "invalid", "detail": "Must be one of: modern."}]

    error = from_answer(400, {}, {"code": "validation_failed", "detail": "No.", "errors": errors})

    assert error.errors == errors
    assert "/inputs/style: Must be one of: modern." in str(error)


def test_a_page_of_a_proxy_is_an_error_like_any_other(play: Play) -> None:
    darkroom, _ = play(Scripted(status=403, body=b"<html>", headers={"X-Request-Id": "req_9"}))

    with pytest.raises(PermissionDenied) as caught:
        darkroom.credits.balance()

    assert (caught.value.code, caught.value.request_id) == ("http_403", "req_9")


@pytest.mark.parametrize(
    "answer",
    [
        Scripted(body=b"<html>Welcome</html>"),
        Scripted(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"}),
        Scripted(body=[]),
        Scripted(body={"available": 3}),
        Scripted(body={**WALLET, "quota": 7}),
        Scripted(body={**WALLET, "quota": {**WALLET["quota"], "resets_at": "soon"}}),
        Scripted(status=204),
    ],
    ids=["a page", "a redirect", "a list", "half of it", "another shape", "no time", "nothing"],
)
def test_an_answer_that_is_not_this_apis_is_called_so(play: Play, answer: Scripted) -> None:
    darkroom, server = play(answer)

    with pytest.raises(UnexpectedAnswer):
        darkroom.credits.balance()

    assert len(server.asked) == 1


def test_an_error_survives_the_way_to_another_process() -> None:
    error = from_answer(402, {"Retry-After": "3"}, {"code": "insufficient_credits", "detail": "No.", "required": 4})

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes

    assert isinstance(copy, InsufficientCredits)
    assert (copy.required, copy.retry_after, str(copy)) == (4, 3, str(error))


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    assert retry_after_seconds("7") == 7
    assert 57 < (retry_after_seconds(in_a_minute) or 0) <= 60
    assert retry_after_seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert [retry_after_seconds(nonsense) for nonsense in (None, "", "soon", "inf")] == [None] * 4


def test_the_key_is_neither_logged_nor_shown(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    darkroom, server = play(a_problem(503, "service_unavailable"), Scripted(body=WALLET))

    darkroom.credits.balance()

    assert server.asked[0].headers["Authorization"] == "Bearer sk_live_secret"
    assert "GET /v1/credits: 503 service_unavailable" in caplog.text
    assert "sk_live_secret" not in caplog.text + repr(darkroom) + repr(darkroom.__dict__)


@pytest.mark.parametrize("key", ["", "sk_live_x\n", "sk live", "sk_live_ä"])
def test_a_key_that_can_be_none_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        Darkroom(key, base_url="http://127.0.0.1:1")

    assert "sk" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "darkroom.example", "ftp://x", "https://", "https://x/?a=1"])
def test_an_address_that_can_be_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Darkroom("sk_live_x", base_url=address)


def test_a_netrc_does_not_replace_the_key(play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    darkroom, server = play(Scripted(body=WALLET))

    darkroom.credits.balance()

    assert server.asked[0].headers["Authorization"] == "Bearer sk_live_secret"


def test_the_client_says_who_it_is(play: Play) -> None:
    darkroom, server = play(Scripted(body=WALLET))

    darkroom.credits.balance()

    assert server.asked[0].headers["User-Agent"].startswith(f"darkroom-client/{darkroom_client.__version__} python/3.")


def test_all_errors_are_of_one_family() -> None:
    errors = [getattr(darkroom_client, name) for name in darkroom_client.__all__]
    errors = [each for each in errors if isinstance(each, type) and issubclass(each, Exception)]

    assert len(errors) > 20
    assert all(issubclass(each, DarkroomError) for each in errors)
