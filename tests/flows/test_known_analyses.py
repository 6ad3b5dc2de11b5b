"""Analyses that are shared, under a hostile bus and workers that die: each key at one operation, each job paid once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import cancelling, coalescing
from services.generation.jobs import charge
from services.generation.models import Generation, Job, Operation
from services.generation.operations import Refused
from services.generation.workflows import Assets, Cached, PlannedGeneration, photo_analysis, registered, workflow
from shared.database import Database
from shared.ids import new_id
from shared.storage import open_store
from tests.fakes import SeeingProvider
from tests.flows.world import World

SEEDS = range(12)
STEPS = 130
PRICE = 3
PICTURES = 4
FREE_OR_NOT = ("photo_analysis", "views")

# Operations that find a key out: none of them may stand beside another of the same key.
_AT_IT = sa.text("""
SELECT analysis_key, count(*) FROM operations
WHERE analysis_key IS NOT NULL
  AND (status IN ('running', 'storing', 'unknown') OR (status = 'queued' AND due_at IS NOT NULL))
GROUP BY org_id, livemode, analysis_key HAVING count(*) > 1
""")


@pytest.fixture(autouse=True)
def product_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one that prices the analyses of all its views together."""
    base = workflow("photo_analysis")
    monkeypatch.setitem(registered(), "views", replace(base, name="views", plan=plan_views))


def plan_views(inputs: Mapping[str, Any], assets: Assets, seed: int, cached: Cached) -> Sequence[PlannedGeneration]:
    planned = photo_analysis.plan(inputs, assets, seed)
    views = tuple(operation for item in planned for operation in item.operations)
    sku = None if all(cached(view) for view in views) else "tech_pack.base_views"
    return [PlannedGeneration(sku=sku, seed=seed, operations=views, priced_by_operation=True)]


class Studio(World):
    """A world in which the same few pictures are analysed again and again."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.provider = SeeingProvider()
        self.engine = replace(self.engine, providers={"local": self.provider})
        self.generation.engine = self.engine

    def ask(self) -> None:
        """Ask for the analysis of some pictures."""
        chosen = self.chance.sample(range(PICTURES), self.chance.randint(1, PICTURES))
        uploads = {new_id("ast"): number for number in chosen}
        self.submit(
            workflow=self.chance.choice(FREE_OR_NOT),
            inputs={"upload_ids": list(uploads)},
            assets={
                upload: {"key": f"assets/org/{number}.jpg", "sha256": f"{number}" * 64}
                for upload, number in uploads.items()
            },
            fresh=self.chance.random() < 0.1,
        )

    def ask_again(self) -> None:
        """Let a client repeat a request whose answer it may not have got."""
        if self.asked:
            self.submit(again=self.chance.choice(self.asked))

    def go_on(self) -> None:
        """Let a worker go on with what waits, or die just before it has."""
        with pytest.MonkeyPatch.context() as dying:
            if self.chance.random() < 0.3:
                dying.setattr(coalescing, "crash_point", _killed)
            try:
                coalescing.settle_ready(self.generation_db, self.engine)
            except KeyboardInterrupt:
                return

    def fail_next(self) -> None:
        """Let the provider refuse what it is asked next."""
        self.provider.script.append(Refused(code="invalid_input", detail="no"))

    def cancel_one(self) -> None:
        """Let a client cancel a job."""
        if self.accepted:
            job_id = self.chance.choice(sorted(self.accepted))
            cancelling.cancel(self.generation_db, org_id=self.org_id, livemode=True, job_id=job_id)

    def at_it_twice(self) -> list[Any]:
        """Return the keys that two operations find out."""
        with self.generation_db.transaction() as session:
            return list(session.execute(_AT_IT))


def _killed(_point: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_dies_each_key_is_at_one_operation_and_each_job_ends_with_its_price(
    credits_db: Database, generation_db: Database, tmp_path: Path, seed: int
) -> None:
    store = open_store(f"file://{tmp_path}/objects")
    world = Studio(credits_db=credits_db, generation_db=generation_db, store=store, seed=seed, balance=1000)
    steps = [
        *[world.ask, world.claim, world.work, world.go_on, world.deliver] * 4,
        world.ask_again,
        world.lose_leases,
        world.repeat_reservations,
        world.expire_a_job,
        world.cancel_one,
        world.fail_next,
    ]

    for _ in range(STEPS):
        world.chance.choice(steps)()
        assert world.at_it_twice() == []
    world.heal()

    assert world.violations() == []
    assert_every_generation_has_its_price(world)


def assert_every_generation_has_its_price(world: Studio) -> None:
    with world.generation_db.transaction() as session:
        jobs = {row.id: row for row in session.scalars(sa.select(Job))}
        generations = list(session.scalars(sa.select(Generation)))
        operations = list(session.scalars(sa.select(Operation)))
    assert all(job.finished_at for job in jobs.values())
    assert not [one.id for one in operations if one.status not in {"succeeded", "failed", "cancelled"}]
    for generation in (row for row in generations if row.status == "succeeded"):
        mine = [one for one in operations if one.generation_id == generation.id]
        taken = sum(one.taken_from is not None for one in mine)
        price = charge(generation.amount or 0, operations=len(mine), from_cache=taken, parts=generation.parts)
        assert generation.charged == price
        assert generation.result is not None
    charged = sum(row.charged or 0 for row in generations)
    wallet = world.wallet()
    assert (wallet["available"], wallet["held"]) == (world.balance - charged, 0)
    assert charged == sum(job["charged"] for job in world.jobs())
    # Whatever was taken was made: by one that was sent, and has an answer.
    made = {one.id for one in operations if one.status == "succeeded" and one.taken_from is None}
    assert {one.taken_from for one in operations if one.taken_from} <= made
