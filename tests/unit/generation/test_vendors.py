"""What is particular to one vendor's adapter, and what all owe: prices first, secrets kept, lost answers found."""

import base64
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest
import structlog
from PIL import Image

from services.generation import breaker
from services.generation.model_registry import MODELS
from services.generation.operations import Absent, Answered, Lost, Outcome, Refused, Running, Submitted
from services.generation.providers import Asynchronous, Provider, Request, available, replicate
from services.generation.providers.accounts import account
from services.generation.providers.refusals import refusal, retry_after_seconds
from services.generation.providers.wire import NotSent, Reply, Wire
from shared.config import ConfigurationError
from shared.off_hub import WorkFailed
from tests.contracts.providers import KEYS, VENDORS, a_photo, a_request, environment_of, hostile_vendors, keys_in
from tests.fakes import ScriptedProvider
from tests.polling import until
from tests.waiting import carry_out
from tools.hostile_providers.server import HostileProviders

SYNCHRONOUS = ("gemini", "getimg", "openai")
ASYNCHRONOUS = ("fal", "replicate")
LONG_AGO = timedelta(minutes=10)
Running_ = tuple[HostileProviders, dict[str, Provider]]


@pytest.fixture
def vendors() -> Iterator[Running_]:
    with hostile_vendors() as running:
        yield running


def staged(vendors: Running_, name: str, **changes: Any) -> tuple[Request, Outcome]:
    _, providers = vendors
    asked = a_request(providers[name], "image.stage", **changes)
    return asked, carry_out(providers[name], asked, poll_seconds=0.01)


def asynchronous(provider: Provider) -> Asynchronous:
    assert isinstance(provider, Asynchronous)
    return provider


def submitted(provider: Provider, asked: Request) -> str:
    taken = provider.submit(asked)
    assert isinstance(taken, Submitted)
    return taken.external_id


@pytest.mark.parametrize("name", VENDORS)
def test_what_cannot_be_priced_is_not_sent(vendors: Running_, name: str) -> None:
    server, _ = vendors

    _, unknown = staged(vendors, name, model="model-of-nobody")

    assert isinstance(unknown, Refused)
    assert (unknown.code, unknown.ran) == ("unpriceable", False)
    assert server.world.requests == []


def test_a_quality_without_a_price_is_not_sent(vendors: Running_) -> None:
    server, _ = vendors

    _, outcome = staged(vendors, "openai", parameters={"quality": "unheard-of"})

    assert isinstance(outcome, Refused)
    assert outcome.code == "unpriceable"
    assert server.world.requests == []


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_does_what_the_registry_has_a_model_for_today(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile_vendors() as (_, providers):
        before = providers[name].operations
        monkeypatch.setattr("services.generation.providers.vendor.today", lambda: date(2020, 1, 1))

        assert before
        assert providers[name].operations == frozenset()


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_is_there_only_with_its_key(name: str) -> None:
    assert set(available({f"PROVIDER_{name.upper()}_API_KEY": "k"})) == {"local", name}
    assert set(available({f"PROVIDER_{name.upper()}_API_KEY": " "})) == {"local"}


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("script", ["ok", "wrong_key", "error_500", "accept_then_drop", "invalid"])
def test_a_key_is_in_no_answer_log_or_name(
    vendors: Running_, name: str, script: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server, providers = vendors
    server.world.play(script)

    with structlog.testing.capture_logs() as lines, caplog.at_level("DEBUG"):
        _, outcome = staged(vendors, name)

    written = json.dumps([lines, vars(providers[name])], default=repr) + caplog.text + "".join(capsys.readouterr())
    assert keys_in(written + repr(outcome) + repr(providers[name])) == []
    sent = {
        asked.headers.get("authorization", "") + asked.headers.get("x-goog-api-key", "")
        for asked in server.world.requests
    }
    assert any(KEYS[name] in each for each in sent), "or the test sees nothing"


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_300_operations_are_in_flight_at_once(name: str) -> None:
    limit = {f"PROVIDER_{name.upper()}_CONCURRENCY": "300"}
    with hostile_vendors(**limit) as (server, providers):
        server.world.always("slow")
        server.world.crowd = 300
        asked = [a_request(providers[name], "image.stage") for _ in range(300)]

        with ThreadPoolExecutor(max_workers=300) as pool:
            outcomes = list(pool.map(providers[name].submit, asked))

    assert [type(outcome) for outcome in outcomes] == [Answered] * 300
    assert server.world.most_in_flight == 300
    assert all(server.world.billed(each.operation_id) == 1 for each in asked)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_300_operations_are_submitted_and_polled_at_once(name: str) -> None:
    with hostile_vendors(time_scale=0.2) as (server, providers):
        server.world.always("slow")
        server.world.crowd = 300
        provider = providers[name]
        asked = [a_request(provider, "image.stage") for _ in range(300)]

        with ThreadPoolExecutor(max_workers=300) as pool:
            outcomes = list(pool.map(lambda each: carry_out(provider, each, poll_seconds=2), asked))

    assert [type(outcome) for outcome in outcomes] == [Answered] * 300
    assert server.world.most_in_flight >= 300
    assert all(server.world.billed(each.operation_id) == 1 for each in asked)


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("script", ["error_500", "capacity", "rate_limited", "hang_up", "accept_then_drop", "html_502"])
def test_nothing_that_is_billed_is_sent_twice_by_an_adapter_nor_tried_by_its_sdk(
    name: str, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    send_for_sdk = Wire._send_for_sdk  # noqa: SLF001  what an SDK tries: the wire would stop it

    def noted(wire: Wire, method: str, url: str, *rest: Any) -> Reply:
        tried.append(f"{method} {url}")
        return send_for_sdk(wire, method, url, *rest)

    monkeypatch.setattr(Wire, "_send_for_sdk", noted)
    with hostile_vendors() as (server, providers):
        server.world.always(script)
        asked = a_request(providers[name], "image.stage")

        providers[name].submit(asked)

    assert len([each for each in server.world.requests if each.operation_id == asked.operation_id]) == 1
    assert len(tried) == len(set(tried)), "the SDK wanted to send it again"


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_is_where_it_is_on_the_web_unless_the_operator_says_otherwise(name: str) -> None:
    key = {f"PROVIDER_{name.upper()}_API_KEY": "k"}
    usual = available(key)[name]
    elsewhere = available({**key, f"PROVIDER_{name.upper()}_BASE_URL": "https://proxy.example/x/"})[name]

    assert "(https://" in repr(usual)
    assert "proxy.example" not in repr(usual)
    assert "(https://proxy.example/x)" in repr(elsewhere)


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_a_vendor_that_answers_in_the_request_is_never_polled(vendors: Running_, name: str) -> None:
    assert not isinstance(vendors[1][name], Asynchronous)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_polling_is_harmless_while_the_vendor_is_down(vendors: Running_, name: str) -> None:
    provider = asynchronous(vendors[1][name])
    external_id = submitted(provider, a_request(provider, "image.stage"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "send", lambda *_, **__: a_reply(503, b"<html>", Retry_After="9"))
        assert provider.poll(external_id) == Running(phase="running", poll_after_seconds=9)
        patch.setattr(Wire, "send", unreachable)
        assert provider.poll(external_id) == Running(phase="running")

    until(lambda: isinstance(provider.poll(external_id), Answered))


def unreachable(*_: Any, **__: Any) -> Reply:
    raise NotSent("not connected")


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_what_the_vendor_no_longer_knows_is_lost(vendors: Running_, name: str) -> None:
    provider = asynchronous(vendors[1][name])
    external_id = submitted(provider, a_request(provider, "image.stage"))
    vendors[0].world.jobs.clear()

    assert isinstance(provider.poll(external_id), Lost)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_result_may_be_asked_for_again(vendors: Running_, name: str) -> None:
    provider = asynchronous(vendors[1][name])
    external_id = submitted(provider, a_request(provider, "image.stage"))
    until(lambda: isinstance(provider.poll(external_id), Answered))

    assert provider.poll(external_id) == provider.poll(external_id)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_what_runs_can_be_cancelled_and_what_is_done_cannot(name: str) -> None:
    with hostile_vendors(time_scale=0.2) as (server, providers):
        provider = asynchronous(providers[name])
        server.world.play("hang", "ok")
        running, done = (submitted(provider, a_request(provider, "image.stage")) for _ in range(2))
        until(lambda: isinstance(provider.poll(done), Answered))

        assert provider.cancel(running)
        assert not provider.cancel(done)

        ended = provider.poll(running)
        assert isinstance(ended, Refused)
        assert (ended.code, ended.ran) == ("cancelled_running", True)
        assert not provider.cancel("some/model:none")


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_callback_address_is_given_to_the_vendor_and_its_webhook_is_signed(vendors: Running_, name: str) -> None:
    server, _ = vendors
    url = f"{server.address}/control?op=op_1&sig=s"

    staged(vendors, name, callback_url=url)

    until(lambda: server.webhooks.sent == [(url, 200)])
    called = [asked for asked in server.world.requests if asked.path == "/control"]
    signature = "webhook-signature" if name == "replicate" else "x-fal-webhook-signature"
    assert called[0].headers[signature]


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_vendor_of_the_real_web_is_given_no_callback_address_without_tls(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def noted(_: Wire, method: str, url: str, **options: Any) -> Reply:
        sent.append(f"{method} {url} {options.get('body')!r} {options.get('json')!r}")
        return a_reply(201, b'{"id": "p", "request_id": "r", "urls": {"get": "https://f.example/1"}}')

    monkeypatch.setattr(Wire, "send", noted)
    provider = available({f"PROVIDER_{name.upper()}_API_KEY": "k"})[name]
    for scheme in ("http", "https"):
        provider.submit(a_request(provider, "image.stage", callback_url=f"{scheme}://darkroom.example/hook"))

    told = "".join(sent)
    assert "https" in told
    assert told.count("darkroom.example") == 1


def test_the_vendors_end_what_they_have_not_begun_within_our_time(vendors: Running_) -> None:
    for name in ASYNCHRONOUS:
        staged(vendors, name)

    limits = {
        asked.headers.get("cancel-after") or asked.headers.get("x-fal-request-timeout")
        for asked in vendors[0].world.requests
    }

    assert {"300s", "300"} <= limits


@pytest.mark.parametrize("script", ["accept_then_drop", "html_200", "garbage_json", "html_502", "hang_up"])
def test_fal_may_call_back_about_a_lost_answer_where_it_was_told_to(vendors: Running_, script: str) -> None:
    server, providers = vendors
    lost = []
    for url in ("http://127.0.0.1:9/hook", None):
        server.world.play(script, vendor="fal")
        lost.append(providers["fal"].submit(a_request(providers["fal"], "image.stage", callback_url=url)))

    assert [isinstance(each, Lost) and each.may_call_back for each in lost] == [True, False]


def test_fal_is_told_to_have_no_other_application_do_it(vendors: Running_) -> None:
    staged(vendors, "fal")

    (submission,) = [asked for asked in vendors[0].world.requests if asked.operation_id]
    names = ("x-fal-disable-fallbacks", "x-app-fal-disable-fallback")
    assert [submission.headers.get(name) for name in names] == ["true", "true"]


@pytest.mark.parametrize("name", ASYNCHRONOUS)
@pytest.mark.parametrize("said", ["", "a/b", "a b", "é", "x" * 201, None, 7, {"id": "x"}])
def test_what_is_no_id_of_a_vendor_is_asked_for_nowhere(vendors: Running_, name: str, said: object) -> None:
    assert asynchronous(vendors[1][name]).known_as(said, model="fal-ai/x") is None


class TestFindingALostPrediction:
    """Replicate: the submission's answer was lost; is it there?"""

    def found(self, vendors: Running_, operation_id: str, **when: Any) -> object:
        provider = asynchronous(vendors[1]["replicate"])
        return provider.find(operation_id, sent_at=when.get("sent_at", datetime.now(UTC) - LONG_AGO))

    def lost(self, vendors: Running_, script: str = "accept_then_drop", **changes: Any) -> Request:
        server, providers = vendors
        server.world.play(script)
        asked = a_request(providers["replicate"], "image.stage", **changes)
        assert isinstance(providers["replicate"].submit(asked), Lost)
        self.age(vendors)
        return asked

    @staticmethod
    def age(vendors: Running_) -> None:
        """Let everything Replicate has be of ten minutes ago."""
        for job in vendors[0].world.jobs.values():
            job["prediction"]["created_at"] = (datetime.now(UTC) - LONG_AGO).isoformat()

    def test_by_its_source_which_carries_the_operations_id(self, vendors: Running_) -> None:
        asked = self.lost(vendors)

        found = self.found(vendors, asked.operation_id)

        assert isinstance(found, Submitted)
        until(lambda: isinstance(asynchronous(vendors[1]["replicate"]).poll(found.external_id), Answered))
        assert vendors[0].world.billed(asked.operation_id) == 1

    def test_at_once_where_it_is_there_already(self, vendors: Running_) -> None:
        server, providers = vendors
        server.world.play("accept_then_drop")
        asked = a_request(providers["replicate"], "image.stage")
        assert isinstance(providers["replicate"].submit(asked), Lost)

        assert isinstance(self.found(vendors, asked.operation_id, sent_at=datetime.now(UTC)), Submitted)

    def test_whatever_arrives_arrives_while_it_is_not_yet_said_to_be_absent(
        self, vendors: Running_, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider = vendors[1]["replicate"]
        latest = replicate._READY_WITHIN_SECONDS + replicate.SUBMIT_SECONDS  # noqa: SLF001  the longest submission
        monkeypatch.setattr(replicate, "_READY_WITHIN_SECONDS", 0.0)

        too_late = provider.submit(a_request(provider, "image.stage"))
        sent_so_long_ago = datetime.now(UTC) - timedelta(seconds=latest)
        found = self.found(vendors, "op_1", sent_at=sent_so_long_ago)

        assert isinstance(too_late, Refused)
        assert (too_late.code, too_late.ran, vendors[0].world.bills) == ("connect_failed", False, [])
        assert isinstance(found, Lost)

    def test_by_its_webhook(self, vendors: Running_) -> None:
        asked = self.lost(vendors)
        for job in vendors[0].world.jobs.values():
            job["prediction"] |= {"input": {}, "webhook": f"https://d.example/?op={asked.operation_id}&sig=s"}

        assert isinstance(self.found(vendors, asked.operation_id), Submitted)

    def test_not_among_those_of_others(self, vendors: Running_) -> None:
        self.lost(vendors)

        assert isinstance(self.found(vendors, "op_another"), Absent)

    def test_not_where_it_never_arrived(self, vendors: Running_) -> None:
        asked = self.lost(vendors, script="hang_up")

        assert isinstance(self.found(vendors, asked.operation_id), Absent)

    def test_not_before_it_could_have_arrived(self, vendors: Running_) -> None:
        asked = self.lost(vendors, script="hang_up")

        assert isinstance(self.found(vendors, asked.operation_id, sent_at=datetime.now(UTC)), Lost)

    def test_never_in_a_list_that_could_not_be_read_to_its_end(self, vendors: Running_) -> None:
        asked = self.lost(vendors)
        for job in vendors[0].world.jobs.values():
            job["prediction"]["created_at"] = "yesterday"

        assert isinstance(self.found(vendors, asked.operation_id), Lost)

    def test_nor_where_a_source_cannot_be_looked_up(self, vendors: Running_, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.lost(vendors)
        monkeypatch.setattr(type(vendors[1]["replicate"]), "_was_uploaded_for", lambda *_: None)

        assert isinstance(self.found(vendors, asked.operation_id), Lost)


def test_fal_says_honestly_that_it_cannot_look_anything_up(vendors: Running_) -> None:
    provider = asynchronous(vendors[1]["fal"])

    assert provider.after_lost_answer == "give_up"
    assert isinstance(provider.find("op_1", sent_at=datetime.now(UTC) - LONG_AGO), Lost)


def test_results_are_fetched_only_from_where_anybody_may_go() -> None:
    with HostileProviders(time_scale=0.01).running() as server:
        setup = {name: value for name, value in environment_of(server).items() if name != "OUTSIDE_ALLOWED"}
        provider = available(setup)["fal"]

        outcome = carry_out(provider, a_request(provider, "image.stage"), poll_seconds=0.01)

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.ran) == ("result_corrupt", True)


@pytest.mark.parametrize("name", ["replicate", "getimg", "fal"])
def test_a_model_that_takes_one_picture_is_not_silently_given_one_of_two(vendors: Running_, name: str) -> None:
    _, outcome = staged(vendors, name, sources=(a_photo(), a_photo()))

    assert isinstance(outcome, Refused)
    assert outcome.code == "invalid_input"
    assert vendors[0].world.bills == []


@pytest.mark.parametrize("name", VENDORS)
def test_a_picture_too_large_for_a_request_is_scaled_down_first(vendors: Running_, name: str) -> None:
    noise = io.BytesIO()
    Image.effect_noise((2600, 1800), 90).save(noise, "PNG")

    _, outcome = staged(vendors, name, sources=(noise.getvalue(),))

    assert len(noise.getvalue()) > 4_000_000
    assert isinstance(outcome, Answered)
    assert max(len(asked.body) for asked in vendors[0].world.requests) < 4_000_000


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_several_pictures_share_the_room_there_is_in_a_request(vendors: Running_, name: str) -> None:
    noise = io.BytesIO()
    Image.effect_noise((1800, 1800), 90).resize((2100, 1700)).save(noise, "PNG")
    provider = vendors[1][name]

    outcome = carry_out(provider, a_request(provider, "vision.plan", sources=(noise.getvalue(),) * 5))

    assert len(noise.getvalue()) < 4_000_000
    assert isinstance(outcome, Answered)
    (asked,) = vendors[0].world.requests
    assert len(asked.body) < 20_000_000 < 5 * len(base64.b64encode(noise.getvalue()))  # what a vendor takes in one


@pytest.mark.parametrize("name", VENDORS)
def test_that_we_are_too_busy_ourselves_does_not_count_against_a_vendor(
    vendors: Running_, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise WorkFailed("Too many images are being processed; try again in a minute")

    monkeypatch.setattr("services.generation.providers.vendor.off_hub", busy)

    _, outcome = staged(vendors, name, sources=(b"\xff\xd8\xff" + bytes(5_000_000),))

    assert breaker.signal(outcome)[0] == "busy"
    assert vendors[0].world.requests == []


@pytest.mark.parametrize("name", VENDORS)
def test_a_large_file_that_is_no_picture_is_not_sent(vendors: Running_, name: str) -> None:
    _, outcome = staged(vendors, name, sources=(b"\xff\xd8\xff" + bytes(5_000_000),))

    assert isinstance(outcome, Refused)
    assert outcome.code == "invalid_input"
    assert vendors[0].world.requests == []


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_models_that_take_several_pictures_get_them_all(vendors: Running_, name: str) -> None:
    _, outcome = staged(vendors, name, sources=(a_photo(), a_photo()))

    (asked,) = vendors[0].world.requests
    assert isinstance(outcome, Answered)
    assert asked.body.count(b'filename="source' if name == "openai" else b'"inlineData"') == 2


@pytest.mark.parametrize("said", ["black-forest-labs/flux-of-tomorrow", None])
def test_an_answer_that_names_no_model_we_know_is_kept_and_not_free(vendors: Running_, said: str | None) -> None:
    server, providers = vendors
    provider = asynchronous(providers["replicate"])
    prediction_id, _, model = submitted(provider, a_request(provider, "image.stage")).partition(":")
    server.world.jobs[prediction_id]["prediction"]["model"] = said

    outcome = until(
        lambda: (
            (found := provider.poll(f"{prediction_id}:{model if said else ''}"))
            and isinstance(found, Answered)
            and found
        )
    )

    assert outcome.model == (said or "")
    assert outcome.cost_microusd == 40_000


STRANGE = [
    "[]",
    "7",
    '"text"',
    "null",
    '{"id": 7, "request_id": {}, "urls": 1, "data": 1, "candidates": 1, "output": 1, "image": 7, "images": 7}',
    '{"data": [1, null, {"b64_json": 1}], "candidates": [1], "output": [1], "image": {}, "images": [1], "usage": 1}',
    '{"candidates": [{"content": {"parts": [1]}}], "output": [{"type": "message", "content": 1}], "usage": "x"}',
    '{"candidates": [{"content": 1}], "usageMetadata": 1, "promptFeedback": 1, "status": 1, "error": [1]}',
    '{"status": "succeeded", "output": {"a": 1}, "input": 1, "id": "p", "request_id": "r"}',
    '{"status": "COMPLETED", "images": {"url": 1}, "has_nsfw_concepts": 1, "detail": {"a": 1}}',
    '{"error": {"details": 1, "code": []}, "detail": [1, [2]], "error_type": []}',
    "[" * 200_000,
    '{"id": "../../v1/account", "request_id": "a/b?c", "status": "failed", "error": "a\\u0000b\\ud800c"}',
    '{"image": "/9j/", "cost": 1e400, "data": [{"b64_json": "/9j/"}], "usage": {"output_tokens": 1e400}}',
    '{"detail": "a\\u0000b", "error": {"code": "a\\ud800", "message": "\\u0000"}}',
    "\0<html>\0",
]


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("operation", ["image.stage", "vision.category"])
@pytest.mark.parametrize("status", [200, 201, 400, 429, 500])
@pytest.mark.parametrize("body", STRANGE)
def test_no_answer_is_so_strange_that_an_adapter_raises(
    monkeypatch: pytest.MonkeyPatch, name: str, operation: str, status: int, body: str
) -> None:
    provider = vendors_once()[name]
    if operation not in provider.operations:
        return
    monkeypatch.setattr(Wire, "send", lambda *_, **__: a_reply(status, body.encode()))

    outcomes: list[object] = [provider.submit(a_request(provider, operation))]
    if isinstance(provider, Asynchronous):
        outcomes += (
            [provider.poll("some/model:1"), provider.poll("1:some/model")]
            if name != "fal"
            else [provider.poll("some/model:1")]
        )
        outcomes += [provider.find("op_1", sent_at=datetime.now(UTC) - LONG_AGO)]
        assert provider.cancel("some/model:1") in {True, False}

    known = (Answered, Refused, Lost, Submitted, Running, Absent)
    assert all(isinstance(outcome, known) for outcome in outcomes)
    for text in (said for outcome in outcomes for said in vars(outcome).values() if isinstance(said, str)):
        assert "\0" not in text
        assert text.encode()
    assert not [each for each in outcomes if isinstance(each, Submitted) and "/" in each.external_id.split(":")[-1]]


@cache
def vendors_once() -> dict[str, Provider]:
    return available({f"PROVIDER_{name.upper()}_API_KEY": "k" for name in VENDORS})


def test_tokens_are_counted_and_paid_for(vendors: Running_) -> None:
    _, openai = staged(vendors, "openai")
    _, gemini = staged(vendors, "gemini")

    assert isinstance(openai, Answered)
    assert isinstance(gemini, Answered)
    # 100 text at $5, 1500 image at $8, 1770 image out at $30 a million; 1200 at $0.50 and 1120 image out at $60.
    assert (openai.cost_microusd, openai.prompt_tokens, openai.completion_tokens) == (500 + 12_000 + 53_100, 1600, 1770)
    assert (gemini.cost_microusd, gemini.prompt_tokens, gemini.completion_tokens) == (600 + 67_200, 1200, 1120)


def test_getimg_is_paid_what_it_says(vendors: Running_) -> None:
    _, outcome = staged(vendors, "getimg")

    assert isinstance(outcome, Answered)
    assert outcome.cost_microusd == 21_500


@pytest.mark.parametrize(("ratio", "size"), [("4:5", (1024, 1280)), ("16:9", (1600, 900)), ("1:1", (1280, 1280))])
def test_a_headshot_of_getimg_has_the_aspect_ratio_that_was_asked_for(
    vendors: Running_, ratio: str, size: tuple[int, int]
) -> None:
    server, providers = vendors
    photo = io.BytesIO()
    Image.new("RGB", (1600, 1280), "tan").save(photo, "JPEG")
    asked = a_request(
        providers["getimg"], "image.headshot", sources=(photo.getvalue(),), parameters={"aspect_ratio": ratio}
    )

    outcome = carry_out(providers["getimg"], asked, poll_seconds=0.01)

    assert isinstance(outcome, Answered)
    (sent,) = server.world.requests
    given = Image.open(io.BytesIO(base64.b64decode(sent.json()["image"])))
    assert max(given.size) == 1024
    assert given.width / given.height == pytest.approx(size[0] / size[1], abs=0.01)


def test_google_says_in_the_body_for_how_long_it_wants_to_be_left_alone(vendors: Running_) -> None:
    vendors[0].world.play("rate_limited")

    _, outcome = staged(vendors, "gemini")

    assert isinstance(outcome, Refused)
    assert outcome.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "sk-one two"),
        ("API_KEY", "schlüssel"),
        ("BASE_URL", "ftp://vendor.example"),
        ("CONCURRENCY", "many"),
        ("CONCURRENCY", "0"),
        ("TIME_LIMIT_SECONDS", "-1"),
    ],
)
def test_a_setting_that_cannot_be_is_told_by_name_without_its_value(name: str, value: str) -> None:
    settings = {"PROVIDER_FAL_API_KEY": "k", f"PROVIDER_FAL_{name}": value}
    given = {"base_url": "https://x", "concurrency": 1, "requests_per_minute": None, "time_limit_seconds": 1}

    with pytest.raises(ConfigurationError, match=f"PROVIDER_FAL_{name}") as failed:
        account(settings, "fal", **given)

    assert value not in str(failed.value)


def test_an_operator_sets_the_limits_of_an_account() -> None:
    settings = {
        "PROVIDER_FAL_API_KEY": "k",
        "PROVIDER_FAL_CONCURRENCY": "7",
        "PROVIDER_FAL_REQUESTS_PER_MINUTE": "90",
        "PROVIDER_FAL_TIME_LIMIT_SECONDS": "45",
    }

    provider = available(settings)["fal"]

    assert (provider.concurrency, provider.requests_per_minute, provider.time_limit_seconds) == (7, 90, 45)


def a_reply(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    return Reply(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_input"),
        (401, "auth_failed"),
        (402, "auth_failed"),
        (403, "auth_failed"),
        (404, "model_retired"),
        (410, "model_retired"),
        (418, "invalid_input"),
        (422, "invalid_input"),
        (429, "rate_limited"),
        (500, "provider_error"),
        (502, "provider_error"),
        (503, "capacity"),
        (504, "provider_timeout"),
        (529, "capacity"),
    ],
)
def test_a_status_in_the_vendors_own_words_has_its_reason(status: int, code: str) -> None:
    outcome = refusal(a_reply(status), key="k")

    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.ran) == (code, False)


@pytest.mark.parametrize("status", [200, 201, 301, 502, 504, 520, 524])
def test_a_page_from_the_edge_leaves_open_what_happened_behind_it(status: int) -> None:
    assert isinstance(refusal(a_reply(status, b"<html>"), key="k"), Lost)


def test_being_full_is_another_reason_than_being_limited() -> None:
    full = refusal(a_reply(429, b'{"error": "MODEL_CAPACITY_EXHAUSTED"}'), key="k")

    assert isinstance(full, Refused)
    assert full.code == "capacity"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-3", 0), ("99999999", 3600), ("nan", None), ("soon", None), ("", None), (" 12 ", 12)],
)
def test_retry_after_is_read_within_reason(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(a_reply(429, Retry_After=text)) == seconds


def test_retry_after_may_be_a_date() -> None:
    at = datetime.now(UTC) + timedelta(seconds=30)

    seconds = retry_after_seconds(a_reply(429, Retry_After=at.strftime("%a, %d %b %Y %H:%M:%S GMT")))

    assert seconds == pytest.approx(30, abs=2)


def test_a_key_that_the_vendor_quotes_is_not_passed_on() -> None:
    outcome = refusal(a_reply(401, b'{"error": "bad key sk-secret-1"}'), key="sk-secret-1")

    assert outcome.detail == 'HTTP 401: {"error": "bad key ***"}'


def test_waiting_for_an_operation_ends_with_its_time() -> None:
    class Endless(ScriptedProvider):
        time_limit_seconds = 0.1
        polls = 0

        def submit(self, _request: Request) -> Submitted:
            return Submitted(external_id="1")

        def poll(self, _external_id: str) -> Running:
            self.polls += 1
            return Running(phase="running")

        def find(self, _operation_id: str, *, sent_at: datetime) -> Lost:
            return Lost(detail=f"{sent_at}")

        def known_as(self, _work_id: object, *, model: str) -> None:
            assert model

        def cancel(self, _external_id: str) -> bool:
            return False

    provider = Endless()
    began = time.monotonic()

    outcome = carry_out(provider, a_request(provider, "image.stage"), poll_seconds=0.02)

    assert isinstance(outcome, Lost)
    assert provider.polls > 1
    assert time.monotonic() - began < 1


def test_every_vendor_of_the_registry_has_an_adapter() -> None:
    assert {model.provider for model in MODELS} == {*VENDORS, "local"}
