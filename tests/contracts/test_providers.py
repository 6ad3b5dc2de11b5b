"""Every provider against every script of the hostile vendors: what comes of it, and how often it was billed."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from services.generation.operations import Answered, Lost, Outcome, Refused, Submitted
from services.generation.providers import Request, available, forget_old_sources
from services.generation.substitutes import as_asked
from shared.images import inspect
from shared.problems import Problem
from tests.contracts.providers import VENDORS, a_request, hostile_vendors, keys_in
from tests.waiting import carry_out
from tools.hostile_providers.scripts import LOST_AND, SCRIPTS

DUMMY = {f"PROVIDER_{name.upper()}_API_KEY": "none" for name in VENDORS}
CASES = sorted(
    (name, operation)
    for name, provider in available(DUMMY).items()
    if name != "local"
    for operation in provider.operations
)
WEBHOOKS = {script: "answered" for script in SCRIPTS if script.startswith("webhook_")}

# What an operation comes to, by script: "answered", "lost", or the code of a refusal.
EXPECTED = {
    **WEBHOOKS,
    "ok": "answered",
    "slow": "answered",
    "hang": "lost",
    "hang_up": "lost",
    "accept_then_drop": "lost",
    "answer_cut": "lost",
    "html_200": "lost",
    "garbage_json": "lost",
    "html_502": "lost",
    "rate_limited": "rate_limited",
    "capacity": "capacity",
    "error_500": "provider_error",
    "wrong_key": "auth_failed",
    "model_gone": "model_retired",
    "invalid": "invalid_input",
    "prompt_blocked": "moderation_input",
    "nsfw": "moderation_output",
    "recitation": "moderation_output",
    "no_image": "answered without image",
    "truncated_image": "answered with a damaged image",
    "result_html": "result_corrupt",
    "expired_url": "result_expired",
    "failed": "provider_error",
    "aborted": "answered",
    "unknown_status": "answered",
    # Where a vendor says which one it was; else nobody can know.
    "other_model": "answered",
    **dict.fromkeys(LOST_AND, "lost"),
}
# Where a vendor differs: it has no such state, or says it in another way.
OF_VENDOR = {
    "replicate": {"other_model": "model_changed", "aborted": "deadline_exceeded", "unknown_status": "lost"},
    "fal": {"aborted": "provider_timeout", "unknown_status": "lost"},
    # These answer with the image itself, so that there is no address to expire.
    "getimg": {"expired_url": "answered without image"},
    "openai": {"expired_url": "answered without image", "nsfw": "moderation_input", "recitation": "moderation_input"},
    "gemini": {
        "other_model": "model_changed",
        "expired_url": "no_image",
        "no_image": "no_image",
        "recitation": "recitation",
        "unknown_status": "no_image",
    },
}
OF_ANALYSES = {
    "truncated_image": "result_corrupt",
    "result_html": "result_corrupt",
    "no_image": "result_corrupt",
    "expired_url": "result_corrupt",
    "nsfw": "moderation_output",
    "recitation": "moderation_output",
    "other_model": "model_changed",
}
OF_GEMINI_ANALYSES = {**OF_ANALYSES, "recitation": "recitation", "unknown_status": "result_corrupt"}
# Billed although refused, or not billed although the script has the vendor bill for images.
BILLS = {("openai", "nsfw"): 0, ("openai", "recitation"): 0}


def expected(vendor: str, operation: str, script: str) -> str:
    if operation.startswith("image."):
        return OF_VENDOR[vendor].get(script, EXPECTED[script])
    of_analyses = OF_GEMINI_ANALYSES if vendor == "gemini" else OF_ANALYSES
    return of_analyses.get(script, EXPECTED[script])


def bills(vendor: str, operation: str, script: str) -> int:
    if operation.startswith("image."):
        return BILLS.get(
            (vendor, script), int(SCRIPTS[script][1] or (script == "aborted" and vendor not in {"fal", "replicate"}))
        )
    return int(SCRIPTS[script][1] or script == "aborted")


def told(outcome: Outcome, *, pictured: bool) -> str:
    if isinstance(outcome, Refused):
        return outcome.code
    if isinstance(outcome, Lost):
        return "lost"
    if not pictured:
        return "answered"
    if not outcome.images:
        return "answered without image"
    with contextlib.suppress(Problem):
        inspect(outcome.images[0].data)
        return "answered"
    return "answered with a damaged image"


# Asked about until time is up: the one is never done, the other is in a state that nobody knows.
HOPELESS = {"hang", "unknown_status"}


@dataclass(frozen=True, kw_only=True)
class Story:
    """A request, what it came to, and how often it was billed."""

    asked: Request
    outcome: Outcome
    bills: int


@pytest.fixture(scope="module")
def story() -> Iterator[Callable[[str, str, str], Story]]:
    """Give what came of a vendor's operation under a script; all of one vendor's are done side by side."""
    limits = {f"PROVIDER_{name.upper()}_TIME_LIMIT_SECONDS": "2" for name in VENDORS}
    told: dict[tuple[str, str, str], Story] = {}

    with hostile_vendors() as patient, hostile_vendors(time_scale=0.1, **limits) as impatient:

        def one(case: tuple[str, str, str]) -> None:
            vendor, operation, script = case
            server, providers = impatient if script in HOPELESS else patient
            asked = a_request(providers[vendor], operation, prompt=f"Please. [[script:{script}]]")
            outcome = as_asked(
                carry_out(providers[vendor], asked, poll_seconds=0.02), provider=vendor, asked=asked.model
            )
            told[case] = Story(asked=asked, outcome=outcome, bills=server.world.billed(asked.operation_id))

        def story(vendor: str, operation: str, script: str) -> Story:
            if (vendor, operation, script) not in told:
                cases = [(vendor, each, name) for owner, each in CASES if owner == vendor for name in SCRIPTS]
                with ThreadPoolExecutor(max_workers=40) as pool:
                    list(pool.map(one, cases))
            return told[vendor, operation, script]

        yield story


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("vendor", "operation"), CASES, ids=["-".join(case) for case in CASES])
def test_an_operation_comes_to_what_its_script_makes_of_it(
    story: Callable[[str, str, str], Story], vendor: str, operation: str, script: str
) -> None:
    came = story(vendor, operation, script)

    assert told(came.outcome, pictured=operation.startswith("image.")) == expected(vendor, operation, script)
    assert came.bills == bills(vendor, operation, script)
    assert keys_in(repr(came.outcome)) == []
    if isinstance(came.outcome, Answered):
        assert came.outcome.cost_microusd > 0
        assert came.outcome.model == came.asked.model
    if isinstance(came.outcome, Refused):
        assert came.bills == 0 or came.outcome.ran, "what was billed has run, and nobody else may do it again"
        assert came.bills == 0 or came.outcome.cost_microusd > 0, "what was billed in vain has cost us all the same"


@pytest.mark.parametrize("script", ["ok", "nsfw", "failed", "prompt_blocked", "expired_url"])
def test_a_photo_that_was_uploaded_to_a_vendor_is_deleted_there_at_the_end_whatever_that_is(script: str) -> None:
    with hostile_vendors() as (server, providers):
        asked = a_request(providers["replicate"], "image.headshot", prompt=f"Please. [[script:{script}]]")

        carry_out(providers["replicate"], asked, poll_seconds=0.02)

        sent = [(each.method, each.path) for each in server.world.requests if "/v1/files" in each.path]
        assert [method for method, _ in sent] == ["POST", "DELETE"]
        assert server.world.files == {}


def test_a_photo_goes_with_the_prediction_that_is_cancelled_at_the_vendor() -> None:
    with hostile_vendors() as (server, providers):
        replicate = providers["replicate"]
        taken = replicate.submit(a_request(replicate, "image.headshot", prompt="Please. [[script:slow]]"))
        assert isinstance(taken, Submitted)
        assert len(server.world.files) == 1

        assert replicate.cancel(taken.external_id)

        assert server.world.files == {}


def test_a_photo_that_a_crash_left_at_a_vendor_is_deleted_there_and_those_in_use_are_not() -> None:
    with hostile_vendors() as (server, providers):
        for _ in range(3):
            providers["replicate"].submit(a_request(providers["replicate"], "image.headshot", prompt="Please."))
        left, needed, strange = server.world.files.values()
        for file in (left, strange):
            file["created_at"] = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
        strange["metadata"] = "nobody's"

        forget_old_sources(providers)

        assert set(server.world.files) == {needed["id"], strange["id"]}
