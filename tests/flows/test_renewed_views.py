"""From the job that makes a view anew to the catalog's next revision, over a bus that repeats and reorders."""

from pathlib import Path
from typing import Any

import pytest

from services.catalog.service import Catalog
from services.generation import workflows
from shared.database import Database
from shared.events import ProductViewAdded
from shared.ids import new_id
from shared.storage import open_store
from tests import view_again
from tests.flows.world import World

SEEDS = range(6)


@pytest.fixture(autouse=True)
def the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: Any = workflows.registered()
    monkeypatch.setitem(registered, view_again.NAME, view_again.LINE)


@pytest.fixture
def catalog(catalog_db: Database) -> Catalog:
    service = Catalog()
    service.db = catalog_db
    return service


@pytest.fixture
def make_world(catalog: Catalog, credits_db: Database, generation_db: Database, tmp_path: Path) -> Any:
    def make(seed: int) -> World:
        store = open_store(f"file://{tmp_path}/objects")
        world = World(credits_db=credits_db, generation_db=generation_db, store=store, seed=seed, balance=0)
        world.bus.outboxes = [*world.bus.outboxes, catalog.db]
        world.bus.services = [*world.bus.services, catalog]
        return world

    return make


def a_product(catalog: Catalog, world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a product with a front and give whose it is, and the product."""
    owner = {"org_id": world.org_id, "livemode": True}
    asset_id = new_id("ast")
    key = f"assets/{world.org_id}/{asset_id}.jpg"
    stored = world.store.put(key=key, chunks=b"a chair", content_type="image/jpeg")
    size = {"bytes": stored.bytes, "width": 800, "height": 600}
    catalog.register_asset(
        **owner,
        **size,
        asset_id=asset_id,
        user_id=None,
        purpose="product",
        key=key,
        sha256=stored.sha256,
        crc32=stored.crc32,
        content_type="image/jpeg",
    )
    picture = {"revision_id": new_id("rev"), "upload_id": asset_id, "thumbnail_key": f"{key}.thumb.jpg"}
    made = catalog.create_product(
        **owner, product_id=new_id("prd"), user_id=None, name="Oak chair", sku="DSK-001", picture=picture
    )
    return owner, made


@pytest.mark.parametrize("seed", SEEDS)
def test_every_view_that_was_made_anew_is_one_revision_and_the_last_that_was_asked_for_is_shown(
    make_world: Any, catalog: Catalog, seed: int
) -> None:
    world = make_world(seed)
    owner, product = a_product(catalog, world)
    first = product["views"][0]["id"]
    asked = []
    for _ in range(4):
        assets = catalog.resolve(**owner, revision_ids=[first])
        asked.append(world.a_submission(workflow=view_again.NAME, inputs={"revision_id": first}, assets=assets))
        world.generation.submit(**asked[-1])

    for _ in range(20):
        world.claim()
        world.work()
        world.deliver()
    world.heal()

    rows = catalog.views(**owner, product_id=product["id"], limit=50)["data"]
    jobs = {job["id"]: job for job in world.jobs()}
    succeeded = [job["job_id"] for job in asked if jobs[job["job_id"]]["status"] == "succeeded"]
    assert succeeded
    renewed = [row for row in rows if row["source"] == "generation"]
    generations = {jobs[job_id]["generations"][0]["id"]: job_id for job_id in succeeded}
    assert sorted(row["generation_id"] for row in renewed) == sorted(generations)
    assert {row["parent_id"] for row in renewed} == {first}
    (current,) = [row for row in rows if row["is_current"]]
    assert generations[current["generation_id"]] == succeeded[-1]
    assert sorted(row["version"] for row in rows) == list(range(1, len(rows) + 1))
    told = [event for event in world.bus.published if isinstance(event, ProductViewAdded)]
    assert sorted(event.revision_id for event in told) == sorted(row["id"] for row in rows)
    assert all(world.store.stat(row["key"]) for row in rows)
