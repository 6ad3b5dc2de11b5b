"""A job that the allowance, or the balance, does not cover: refused, done in part, or done as soon as it is covered."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.database import Database
from shared.problems import InsufficientCredits, QuotaExceeded, QuoteUsed
from shared.storage import open_store
from tests.flows.test_saga import assert_images_are_whole
from tests.flows.world import World


@pytest.fixture
def make_world(credits_db: Database, generation_db: Database, tmp_path: Path) -> Any:
    def make(*, balance: int = 1000, plan: str = "free") -> World:
        store = open_store(f"file://{tmp_path}/objects")
        world = World(
            credits_db=credits_db, generation_db=generation_db, store=store, seed=0, balance=balance, plan=plan
        )
        world.remote_credits.loses_answers = world.remote_generation.loses_answers = False
        return world

    return make


@pytest.fixture
def world(make_world: Any) -> World:
    """An organization on the free plan (100 studio images a month) that has used 85."""
    world: World = make_world()
    world.remote_generation.submit(**world.a_studio_submission(products=17, variants=5))
    world.rest()
    assert quota(world)["used"] == 85
    return world


def quota(world: World) -> dict[str, Any]:
    return dict(world.wallet()["quota"])


def of_180(world: World, on_insufficient: str) -> dict[str, Any]:
    return world.a_studio_submission(products=45, variants=4, on_insufficient=on_insufficient)


def job(world: World, asked: dict[str, Any]) -> dict[str, Any]:
    return dict(world.generation.job(org_id=world.org_id, livemode=True, job_id=asked["job_id"]))


def told(world: World, asked: dict[str, Any]) -> Counter[str]:
    return Counter(
        type(event).__name__ for event in world.bus.published if getattr(event, "job_id", None) == asked["job_id"]
    )


def test_85_used_and_180_asked_for_is_refused_with_the_numbers(world: World) -> None:
    asked = of_180(world, "reject")

    with pytest.raises(QuotaExceeded) as refusal:
        world.remote_generation.submit(**asked)
    world.rest()

    numbers = {name: refusal.value.extra[name] for name in ("limit", "used", "requested", "max_affordable")}
    assert numbers == {"limit": 100, "used": 85, "requested": 180, "max_affordable": 15}
    assert refusal.value.extra["resets_at"]
    assert (job(world, asked)["status"], quota(world)["used"]) == ("rejected", 85)
    assert world.violations() == []


def test_in_part_15_of_180_are_made_and_the_others_were_never_begun(world: World) -> None:
    asked = of_180(world, "partial")

    answer = world.remote_generation.submit(**asked)
    world.rest()

    assert answer["job"]["counts"]["failed"] == 165
    ended = job(world, asked)
    assert (ended["status"], ended["charged"], ended["refunded"]) == ("partially_succeeded", 15, 0)
    assert "165 of 180" in ended["warnings"][0]["detail"]
    assert told(world, asked)["RefundIssued"] == 0
    assert (quota(world)["used"], world.violations()) == (100, [])


def test_paused_15_of_180_are_made_and_after_a_change_of_plan_the_rest_without_a_new_call(world: World) -> None:
    asked = of_180(world, "pause")
    world.remote_generation.submit(**asked)
    world.rest()
    standing = job(world, asked)

    world.credits.change_plan(org_id=world.org_id, plan="pro", actor="usr_1")
    world.rest()

    assert (standing["status"], standing["waiting_reason"]) == ("paused", "quota_exceeded")
    assert (standing["counts"]["succeeded"], standing["counts"]["queued"]) == (15, 165)
    ended = job(world, asked)
    assert (ended["status"], ended["charged"], ended["warnings"]) == ("succeeded", 180, [])
    events = told(world, asked)
    assert (events["JobPaused"], events["JobResumed"], events["JobFinished"]) == (1, 1, 1)
    assert (events["GenerationCompleted"], events["GenerationFailed"]) == (180, 0)
    assert world.violations() == []


def test_credits_that_are_bought_let_a_paused_staging_go_on(make_world: Any) -> None:
    world: World = make_world(balance=25)
    asked = world.a_submission(variants=4, on_insufficient="pause")
    world.remote_generation.submit(**asked)
    world.rest()
    standing = job(world, asked)

    world.grant(5)
    world.rest()
    still_standing = job(world, asked)
    world.grant(100)
    world.rest()

    assert (standing["status"], standing["counts"]["succeeded"]) == ("paused", 2)
    assert (still_standing["status"], still_standing["counts"]["succeeded"]) == ("paused", 3)
    assert (job(world, asked)["status"], job(world, asked)["charged"]) == ("succeeded", 40)
    assert (world.wallet()["available"], world.wallet()["held"], world.violations()) == (90, 0, [])


def test_a_refund_of_another_job_lets_a_paused_one_go_on(make_world: Any) -> None:
    world: World = make_world(balance=20)
    first, second = world.a_submission(variants=2), world.a_submission(variants=1, on_insufficient="pause")
    world.remote_generation.submit(**first)
    world.remote_generation.submit(**second)
    assert job(world, second)["status"] == "paused"
    world.rest()
    assert job(world, second)["status"] == "paused"

    world.credits.refund(job_id=first["job_id"], reason="not what was ordered", actor="admin")
    world.rest()

    assert (job(world, second)["status"], world.wallet()["available"]) == ("succeeded", 10)
    assert world.violations() == []


class AnswersLate:
    """Credits whose first answer is on its way while the same is asked once more, with more in the wallet."""

    def __init__(self, world: World) -> None:
        self.world = world

    def reserve(self, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.world.credits.reserve(**request)
        self.world.grant(100)
        self.world.credits.reserve(**request)
        return answer


def test_what_was_held_for_generations_that_a_late_answer_had_failed_comes_back(make_world: Any) -> None:
    world: World = make_world(balance=15)
    asked = world.a_submission(variants=3, on_insufficient="partial")
    world.generation.credits_service = AnswersLate(world)

    world.remote_generation.submit(**asked)
    held = world.wallet()["held"]
    world.rest()

    assert held == 30
    ended = job(world, asked)
    assert (ended["status"], ended["charged"]) == ("partially_succeeded", 10)
    assert told(world, asked)["RefundIssued"] == 2
    assert (world.wallet()["available"], world.wallet()["held"], world.violations()) == (105, 0, [])


def test_a_job_that_was_paused_for_a_month_ends_and_leaves_nothing_held(make_world: Any) -> None:
    world: World = make_world(balance=0)
    asked = world.a_submission(variants=2, on_insufficient="pause")
    answer = world.remote_generation.submit(**asked)
    world.rest()

    world.end_pauses()
    world.rest()

    assert answer["job"]["status"] == "paused"
    ended = job(world, asked)
    assert (ended["status"], ended["charged"]) == ("failed", 0)
    assert {item["failure"]["reason"] for item in ended["generations"]} == {"insufficient_credits"}
    world.grant(100)
    world.rest()
    assert (world.wallet()["available"], world.wallet()["held"], world.violations()) == (100, 0, [])


def test_a_quoted_job_costs_what_the_quote_says_and_a_quote_is_good_for_one(make_world: Any) -> None:
    world: World = make_world(balance=100)
    asked = world.a_submission(variants=3)
    plan = world.remote_generation.quote(
        org_id=world.org_id, livemode=True, workflow="staging", inputs=asked["inputs"], assets=asked["assets"]
    )
    quote = world.credits.quote(org_id=world.org_id, livemode=True, quote_id="quo_1", **plan)

    rehearsed = world.remote_generation.submit(**asked, quote_id="quo_1", dry_run=True)
    world.remote_generation.submit(**asked, quote_id="quo_1")
    world.rest()
    with pytest.raises(QuoteUsed):
        world.remote_generation.submit(**{**asked, "job_id": "job_2", "quote_id": "quo_1"})

    assert (quote["amount"], rehearsed["amount"], job(world, asked)["charged"]) == (30, 30, 30)
    assert [line["count"] for line in rehearsed["lines"]] == [line["count"] for line in quote["lines"]] == [3]
    assert (world.wallet()["available"], world.violations()) == (70, [])


def test_a_paused_job_keeps_its_quote_until_it_can_be_paid_for(make_world: Any) -> None:
    world = make_world(balance=0, plan="pro")
    asked = world.a_submission(variants=2, on_insufficient="pause")
    plan = world.remote_generation.quote(
        org_id=world.org_id, **{name: asked[name] for name in ("livemode", "workflow", "inputs", "assets")}
    )
    world.credits.quote(org_id=world.org_id, livemode=True, quote_id="quo_1", **plan)
    world.remote_generation.submit(**asked, quote_id="quo_1")

    with pytest.raises(QuoteUsed):
        world.remote_generation.submit(**{**asked, "job_id": "job_2", "quote_id": "quo_1"})
    world.credits.grant(
        grant_id="grt_1", org_id=world.org_id, amount=20, kind="purchased", reason="invoice 7", actor="ada"
    )
    world.rest()

    assert (job(world, asked)["status"], job(world, asked)["charged"]) == ("succeeded", 20)


def test_a_dry_run_leaves_no_trace_anywhere(make_world: Any) -> None:
    world: World = make_world(balance=15)
    before = world.credits.entries(org_id=world.org_id)["data"]

    in_part = world.remote_generation.submit(**world.a_submission(dry_run=True, on_insufficient="partial"))
    with pytest.raises(InsufficientCredits) as refusal:
        world.remote_generation.submit(**world.a_submission(dry_run=True))
    world.rest()

    assert (in_part["amount"], in_part["shortfall"]["code"]) == (10, "insufficient_credits")
    assert refusal.value.extra["max_affordable"] == 1
    assert world.jobs() == []
    assert world.credits.entries(org_id=world.org_id)["data"] == before
    assert (world.wallet()["available"], world.wallet()["held"]) == (15, 0)
    assert_images_are_whole(world, [])
