"""Every script of every hostile vendor through the running engine: one image or its price back, and the bills counted.

Processes of the product, PostgreSQL, RabbitMQ; all jobs at once. Expected is what docs/failures.md says. A staged image
meets every script at every vendor; each other kind of operation, at the vendors that do it by turns, those in which it
matters what was asked for: the way there and back is the same for all.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from services.generation.failures import TAXONOMY
from services.generation.holding import OPERATIONS_CHANNEL
from tests.conftest import MakeDatabase, NewVhost
from tests.contracts.providers import VENDORS
from tests.flows.processes import PRICE, Story, System, system
from tests.polling import until
from tools import audit
from tools.audit import Scope
from tools.hostile_providers.scripts import LOST_AND, SCRIPTS

pytestmark = pytest.mark.broker

# A vendor may take 12 s, and hangs for 45.
TIME_LIMIT_SECONDS = 12
TIME_SCALE = 0.5
AFTER_THE_DEADLINE = timedelta(seconds=60)
# A job whose time is up while its vendor hangs.
OVERDUE = "hang past the deadline"


@dataclass(frozen=True, kw_only=True)
class Came:
    """What a job comes to: the reason of its failure (None: it has its image), how often it is sent, and billed.

    ``counted`` of the bills have their cost in the log: all, unless nobody tells us of them.
    """

    reason: str | None = None
    bills: int = 0
    sent: int = 1
    counted: int | None = None

    @property
    def status(self) -> str:
        """How the job ends."""
        return {None: "succeeded", "deadline_exceeded": "expired"}.get(self.reason, "failed")


MADE = Came(bills=1)
LOST = Came(reason="outcome_unknown", bills=1, counted=0)
GIVEN_UP = Came(reason="provider_timeout", bills=1)
NEVER_TOLD = Came(reason="provider_timeout", bills=1, counted=0)
_DONE_AND_LOST = ("accept_then_drop", "answer_cut", "html_200", "garbage_json", "html_502")

EXPECTED = {
    **{script: MADE for script in SCRIPTS if script.startswith("webhook_")},
    **dict.fromkeys(("ok", "slow", "aborted", "unknown_status"), MADE),
    **dict.fromkeys(("hang", *_DONE_AND_LOST, *LOST_AND), LOST),
    "hang_up": Came(reason="outcome_unknown"),
    "rate_limited": Came(reason="rate_limited", sent=3),
    "capacity": Came(reason="capacity", sent=3),
    "error_500": Came(reason="provider_error", sent=3),
    "failed": Came(reason="provider_error", sent=3),
    "wrong_key": Came(reason="auth_failed"),
    "model_gone": Came(reason="model_retired"),
    "invalid": Came(reason="invalid_input"),
    "prompt_blocked": Came(reason="moderation_input"),
    "nsfw": Came(reason="moderation_output", sent=2, bills=2),
    "recitation": Came(reason="moderation_output", sent=2, bills=2),
    "no_image": Came(reason="no_image", sent=3, bills=3),
    "truncated_image": Came(reason="result_corrupt", sent=2, bills=2),
    "result_html": Came(reason="result_corrupt", sent=2, bills=2),
    "expired_url": Came(reason="result_expired", bills=1),
    # Where a vendor says which one it was; else nobody can know.
    "other_model": MADE,
    OVERDUE: Came(reason="deadline_exceeded", bills=1, counted=0),
}
# These answer with the picture itself: no address of it can expire.
_NO_ADDRESS = {"expired_url": Came(reason="no_image", sent=3, bills=3)}
OTHER_MODEL = Came(reason="model_changed", bills=1)
# These take the work and are asked for it: one that hangs is stopped there, and says what it had done by then.
_ASKED_LATER = {
    "hang": GIVEN_UP,
    "unknown_status": NEVER_TOLD,
    OVERDUE: Came(reason="deadline_exceeded", bills=1),
}
OF_VENDOR = {
    "openai": {
        **_NO_ADDRESS,
        "nsfw": Came(reason="moderation_input"),
        "recitation": Came(reason="moderation_input"),
    },
    "getimg": _NO_ADDRESS,
    "gemini": {
        **_NO_ADDRESS,
        "other_model": OTHER_MODEL,
        "recitation": Came(reason="recitation", sent=2, bills=2),
        "unknown_status": Came(reason="no_image", sent=3, bills=3),
    },
    # Its webhook tells of what was done, where it comes and is its own.
    "fal": {
        **_ASKED_LATER,
        **dict.fromkeys((*_DONE_AND_LOST, "lost_repeated"), MADE),
        "aborted": Came(reason="provider_timeout", sent=2),
    },
    # It can be searched: what was done is found, and what was not is sent again.
    "replicate": {
        **_ASKED_LATER,
        **dict.fromkeys((*_DONE_AND_LOST, *LOST_AND), MADE),
        "hang_up": Came(reason="connect_failed", sent=3),
        "aborted": Came(reason="deadline_exceeded"),
        "other_model": OTHER_MODEL,
    },
}
# Of pictures it is the bytes that are damaged; of analyses, the JSON.
_DAMAGED = Came(reason="result_corrupt", sent=2, bills=2)
_WITHHELD = Came(reason="moderation_output", sent=2, bills=2)
OF_ANALYSES = {
    **dict.fromkeys(("truncated_image", "result_html", "no_image", "expired_url"), _DAMAGED),
    **dict.fromkeys(("nsfw", "recitation"), _WITHHELD),
    "other_model": OTHER_MODEL,
}
ANALYSES_OF_VENDOR = {
    "openai": {},
    "gemini": {"recitation": Came(reason="recitation", sent=2, bills=2), "unknown_status": _DAMAGED},
}
NOT_THE_VENDORS = ("webhook_forged", "webhook_unsigned", "webhook_stale", "webhook_altered", "lost_forged")
_CALLS_BACK = ("fal", "replicate")
STAGED = "image.stage"
OTHERS = (
    "image.empty_room",
    "image.product_scene",
    "image.headshot",
    "image.close_up",
    "image.sketch",
    "image.edit",
    "vision.analyze",
    "vision.category",
    "vision.plan",
    "text.analyze",
)
OF_OTHERS = (
    "ok",
    "hang",
    "accept_then_drop",
    "garbage_json",
    "rate_limited",
    "error_500",
    "invalid",
    "prompt_blocked",
    "nsfw",
    "recitation",
    "no_image",
    "truncated_image",
    "result_html",
    "expired_url",
    "failed",
    "aborted",
    "unknown_status",
    "other_model",
)
Case = tuple[str, str, str]


def doing(operation: str, *, turn: int) -> str:
    """Return one of the vendors that do an operation."""
    vendors = VENDORS if operation.startswith("image.") else tuple(ANALYSES_OF_VENDOR)
    return vendors[turn % len(vendors)]


CASES: list[Case] = [
    *((vendor, STAGED, script) for vendor in VENDORS for script in (*SCRIPTS, OVERDUE)),
    *(
        (doing(operation, turn=number + place), operation, script)
        for number, operation in enumerate(OTHERS)
        for place, script in enumerate(OF_OTHERS)
    ),
]
_PASSED = "clock_timestamp() - interval '1 ms'"
# What is waited for by the minute: between two tries, for a vendor that wants to be left alone or is down, until a
# request that was not found is certainly not there, and for what a vendor that has gone mad will never say.
# Each alone, and of rows that nobody holds: the engine's own order of locks is its own affair.
TIME_PASSES = (
    f"""
    UPDATE operations SET due_at = {_PASSED} WHERE id IN (
        SELECT id FROM operations WHERE status = 'queued' AND attempt > 0 AND due_at > clock_timestamp()
        FOR UPDATE SKIP LOCKED)
    """,
    f"""
    WITH passed AS (
        UPDATE circuits SET paused_until = CASE WHEN paused_until IS NOT NULL THEN {_PASSED} END,
            probe_at = CASE WHEN probe_at IS NOT NULL THEN {_PASSED} END
        WHERE (provider, model) IN (
            SELECT provider, model FROM circuits
            WHERE paused_until > clock_timestamp() OR probe_at > clock_timestamp() FOR UPDATE SKIP LOCKED)
        RETURNING provider
    )
    SELECT pg_notify('{OPERATIONS_CHANNEL}', '') FROM passed
    """,
    """
    UPDATE operations SET sent_at = sent_at - interval '1 h' WHERE id IN (
        SELECT id FROM operations WHERE status = 'failed' AND cancel_sent_at IS NOT NULL
            AND prompt LIKE '%unknown_status%' AND sent_at > clock_timestamp() - interval '30 min'
        FOR UPDATE SKIP LOCKED)
    """,
)
LONG_AGO = timedelta(seconds=200)
_LOST_LONG_AGO = """
UPDATE operations SET sent_at = sent_at - CAST(:ago AS interval), poll_at = clock_timestamp() WHERE id IN (
    SELECT id FROM operations WHERE status = 'unknown' AND sent_at > clock_timestamp() - interval '100 s'
        AND prompt LIKE '%hang_up%'
    FOR UPDATE SKIP LOCKED)
RETURNING prompt
"""
_TIME_IS_UP = """
UPDATE jobs SET deadline_at = clock_timestamp() WHERE id IN (
    SELECT id FROM jobs WHERE id = ANY(:ids) AND finished_at IS NULL AND deadline_at > clock_timestamp()
        AND id IN (SELECT job_id FROM operations WHERE sent_at IS NOT NULL)
    FOR UPDATE SKIP LOCKED)
"""
_OPEN = (
    "SELECT count(*) FROM operations LEFT JOIN attempts ON attempts.operation_id = operations.id"
    " WHERE operations.status NOT IN ('succeeded', 'failed', 'cancelled') OR attempts.ended_at IS NULL"
)


@pytest.fixture
def engine(make_database: MakeDatabase, new_vhost: NewVhost, tmp_path: Path) -> Iterator[System]:
    limits = {f"PROVIDER_{vendor.upper()}_TIME_LIMIT_SECONDS": str(TIME_LIMIT_SECONDS) for vendor in VENDORS}
    with system(
        make_database, new_vhost, folder=tmp_path, time_scale=TIME_SCALE, WORKER_SLOTS="24", **limits
    ) as running:
        yield running


def test_whatever_a_vendor_does_there_is_one_image_or_its_price_back_and_every_bill_is_accounted_for(
    engine: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {case: job_id for vendor in VENDORS for case, job_id in submitted(engine, vendor)}
    overdue = [job_id for (_, _, script), job_id in jobs.items() if script == OVERDUE]

    with engine.process("gateway") as gateway, ExitStack() as started:
        until(gateway.is_ready, seconds=60, what="the gateway, for webhooks")
        started.enter_context(engine.process("generation-worker"))
        until(lambda: all_ended(engine, overdue), seconds=360, what="the end of every job")
        stories = {case: engine.story(job_id) for case, job_id in jobs.items()}
        made = sum(len(story.images) for story in stories.values())
        until(lambda: engine.wallet()["held"] == 0, what="the settlement of every line")
        for name, value in engine.environment.items():
            monkeypatch.setenv(name, value)
        until(lambda: violations() == [], seconds=20, what="a system that the audit finds in order")

    wrong = {case: problems for case, story in stories.items() if (problems := wrong_with(case, story))}
    assert wrong == {}
    assert engine.wallet()["available"] == engine.balance - PRICE * made
    assert sorted(engine.store.keys("images/")) == engine.named_keys()
    answers = Counter(status for _, status in engine.vendors.webhooks.sent)
    assert answers[HTTPStatus.NO_CONTENT], "a vendor that is given an address calls there"
    forged = sum(vendor in _CALLS_BACK and script in NOT_THE_VENDORS for vendor, _, script in CASES)
    assert answers[HTTPStatus.UNAUTHORIZED] == forged


def submitted(engine: System, vendor: str) -> Iterator[tuple[Case, str]]:
    """Submit all cases of a vendor; yield each with its job."""
    cases = [case for case in CASES if case[0] == vendor]
    asked = [(operation, "hang" if script == OVERDUE else script) for _, operation, script in cases]
    return zip(cases, engine.submitted_together(vendor, asked), strict=True)


def all_ended(engine: System, overdue: list[str]) -> bool:
    for statement in TIME_PASSES:
        engine.execute(statement)
    lost = {prompt for (prompt,) in engine.execute(_LOST_LONG_AGO, ago=LONG_AGO)}
    engine.age_predictions(lambda prompt: prompt in lost, by=LONG_AGO)
    engine.execute(_TIME_IS_UP, ids=overdue)
    threading.Event().wait(0.1)
    return not engine.found(_OPEN)


def violations() -> list[object]:
    found = audit.run(Scope(grace_seconds=0, deep=True))
    return [violation for each in found.values() for violation in each.violations]


def expected(vendor: str, operation: str, script: str) -> Came:
    if operation.startswith("image."):
        return OF_VENDOR[vendor].get(script, EXPECTED[script])
    return {**EXPECTED, **OF_ANALYSES, **ANALYSES_OF_VENDOR[vendor]}[script]


def wrong_with(case: Case, story: Story) -> list[str]:
    """Return what is wrong with a story."""
    wanted, job = expected(*case), story.job
    pictured = case[1].startswith("image.")
    price = PRICE if pictured else 0
    made = wanted.reason is None
    counted = sum(bool(attempt.cost_microusd) for attempt in story.attempts)
    money = (job["charged"], job["refunded"], job["reserved"])
    documented = 1 if wanted.reason is None else TAXONOMY[wanted.reason].bills_at_most
    checks = {
        f"it ended {job['status']} by {story.reason}": (job["status"], story.reason) == (wanted.status, wanted.reason),
        f"{len(story.images)} images": len(story.images) == int(made and pictured),
        "no result, or one of nothing": bool(job["generations"][0]["result"]) == (made and not pictured),
        f"charged, refunded, held: {money}": money == ((price, 0, 0) if made else (0, price, 0)),
        f"{story.bills} bills": story.bills == wanted.bills,
        f"more bills than documented: {story.bills}": story.bills <= documented,
        f"sent {len(story.attempts)} times": len(story.attempts) == wanted.sent,
        f"{counted} bills in the log": counted == (wanted.bills if wanted.counted is None else wanted.counted),
        f"it ended at {job['finished_at']}, its deadline was {job['deadline_at']}": late_by(job) < AFTER_THE_DEADLINE,
    }
    return [problem for problem, fine in checks.items() if not fine]


def late_by(job: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["deadline_at"])
