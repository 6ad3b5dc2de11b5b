from collections import Counter
from dataclasses import replace

from services.generation import claims, planning, submissions
from services.generation.engine import Engine
from shared.database import Database
from shared.ids import new_id
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import (
    claim,
    submitted,
)


def test_an_operation_is_claimed_by_one_worker_only(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=8)

    claimed = claim(generation_db, free=5) + claim(generation_db, free=5)

    assert len(claimed) == 8
    assert len({item.id for item in claimed}) == 8


def test_operations_are_not_due_before_the_credits_are_held(generation_db: Database, engine: Engine) -> None:
    asked = a_submission()
    with generation_db.transaction() as session:
        plan = planning.plan(engine, workflow_name="staging", inputs=asked.inputs, assets=asked.assets)
        submissions.take_in(session, [submissions.planned(engine, asked, plan)])

    assert claim(generation_db) == []


def test_a_small_organization_is_served_beside_a_large_one(generation_db: Database, engine: Engine) -> None:
    large, small = new_id("org"), new_id("org")
    for _ in range(5):
        submitted(generation_db, engine, variants=8, org_id=large)
    submitted(generation_db, engine, variants=2, org_id=small)

    turns = Counter(item.org_id for item in claim(generation_db, free=4))

    assert turns == {large: 2, small: 2}


def test_what_an_organization_has_at_work_counts_against_its_next_turn(generation_db: Database, engine: Engine) -> None:
    busy, fresh = new_id("org"), new_id("org")
    submitted(generation_db, engine, variants=8, org_id=busy)
    claim(generation_db, free=3)
    submitted(generation_db, engine, variants=3, org_id=fresh)

    turns = Counter(item.org_id for item in claim(generation_db, free=3))

    assert turns == {fresh: 3}


def test_an_organization_never_has_more_at_work_than_its_limit(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=8)

    claimed = claim(generation_db, per_organization=3) + claim(generation_db, per_organization=3)

    assert len(claimed) == 3


def test_a_provider_never_has_more_at_work_than_its_limit(generation_db: Database, engine: Engine) -> None:
    for _ in range(4):
        submitted(generation_db, engine, variants=2)

    claimed = claim(generation_db, limit=3) + claim(generation_db, limit=3)

    assert len(claimed) == 3


def test_a_heartbeat_keeps_the_lease_and_names_what_was_lost(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine)
    first, second = claim(generation_db)
    stale = replace(second, fence=second.fence - 1)

    with generation_db.transaction() as session:
        kept = claims.heartbeat(session, [first, stale])

    assert kept == {first.id}
