"""What test keys ask for, under the same hostile bus: it ends, it is told, and the ledger never hears of it."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation.jobs import JOB_ENDS
from services.generation.models import Generation
from shared.database import Database
from shared.storage import open_store
from tests.flows.world import World

SEEDS = range(6)
STEPS = 50


@pytest.fixture
def make_world(credits_db: Database, generation_db: Database, tmp_path: Path) -> Any:
    def make(seed: int = 0, *, balance: int = 1000) -> World:
        store = open_store(f"file://{tmp_path}/objects")
        return World(credits_db=credits_db, generation_db=generation_db, store=store, seed=seed, balance=balance)

    return make


def jobs_of_test_keys(world: World) -> list[dict[str, Any]]:
    return list(world.generation.jobs(org_id=world.org_id, livemode=False, limit=10_000)["data"])


def ledger(world: World) -> list[Any]:
    with world.credits_db.transaction() as session:
        tables = ("accounts", "entries", "grants", "reservations", "lines", "daily_usage")
        return [session.execute(sa.text(f"SELECT * FROM {table} ORDER BY 1, 2")).all() for table in tables]


def walk(world: World, *moves: Any) -> None:
    """Let anything happen for a while, then let the system come to rest."""
    for _ in range(STEPS):
        world.chance.choice([*moves, world.claim, world.work, world.lose_leases, world.deliver, world.expire_a_job])()
    world.heal()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_job_of_a_test_key_ends_and_moves_nothing(make_world: Any, seed: int) -> None:
    world: World = make_world(seed)
    before = ledger(world)

    walk(world, lambda: world.submit(livemode=False), lambda: world.submit(livemode=False, variants=1))

    jobs = jobs_of_test_keys(world)
    assert world.accepted
    assert world.accepted <= {job["id"] for job in jobs}
    assert {job["status"] for job in jobs} <= JOB_ENDS
    assert {(job["charged"], job["refunded"], job["reserved"]) for job in jobs} == {(0, 0, 0)}
    assert ledger(world) == before
    assert world.violations() == []
    assert {event.livemode for event in world.bus.published if hasattr(event, "livemode")} == {False}


@pytest.mark.parametrize("seed", SEEDS)
def test_beside_test_work_every_live_result_is_paid_for_and_nothing_else(make_world: Any, seed: int) -> None:
    world: World = make_world(100 + seed)

    walk(world, world.submit, lambda: world.submit(livemode=False))

    with world.generation_db.transaction() as session:
        made = list(session.scalars(sa.select(Generation).where(Generation.status == "succeeded")))
    live = [generation for generation in made if generation.livemode]
    assert (world.wallet()["available"], world.wallet()["held"]) == (1000 - 10 * len(live), 0)
    assert world.wallet()["counters"]["generations"] == len(live)
    assert world.violations() == []
    assert {job["status"] for job in world.jobs() + jobs_of_test_keys(world)} <= JOB_ENDS
