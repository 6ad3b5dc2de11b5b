"""What test keys have asked for: the lowest lane, one at a time of an organization, in nobody's way."""

import threading
from collections import Counter

import pytest
import sqlalchemy as sa

from services.generation import claims, metrics, places
from services.generation.engine import Engine
from services.generation.models import Operation
from shared.database import Database
from shared.ids import new_id
from tests.polling import until
from tests.service.generation.steps import adopt, begun, claim, fail_one, job_of, lapse, submitted


def lanes(claimed: list[claims.Claimed]) -> dict[int, int]:
    return dict(Counter(item.lane for item in claimed))


def test_one_at_a_time_of_an_organization_is_claimed(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    for _ in range(2):
        submitted(generation_db, engine, variants=2, org_id=org_id, livemode=False)
    done = []

    for _ in range(4):
        claimed = begun(generation_db, claim(generation_db))
        assert claim(generation_db) == []
        (item,) = claimed
        adopt(generation_db, engine, item)
        done.append(item.id)

    assert len(set(done)) == 4
    assert claim(generation_db) == []


def test_the_next_has_its_turn_when_one_has_failed(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, livemode=False)
    (first,) = begun(generation_db, claim(generation_db))

    fail_one(generation_db, first)

    (second,) = claim(generation_db)
    assert second.id != first.id


def test_what_a_dead_worker_had_counts_until_it_is_decided_about(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, livemode=False)
    begun(generation_db, claim(generation_db))

    lapse(generation_db)

    assert claim(generation_db) == []


def test_each_organization_has_its_own_turn(generation_db: Database, engine: Engine) -> None:
    organizations = [new_id("org") for _ in range(3)]
    for org_id in organizations:
        submitted(generation_db, engine, org_id=org_id, livemode=False)

    assert Counter(item.org_id for item in claim(generation_db)) == dict.fromkeys(organizations, 1)


@pytest.mark.parametrize("livemode", [False, True])
def test_who_waited_for_the_others_claim_counts_it(generation_db: Database, engine: Engine, *, livemode: bool) -> None:
    submitted(generation_db, engine, variants=2, livemode=livemode)
    second = sa.select(Operation.id).order_by(Operation.due_at, Operation.id).offset(1).limit(1).scalar_subquery()
    mine: list[claims.Claimed] = []
    waiting = threading.Thread(target=lambda: mine.extend(claim(generation_db, per_organization=1)))

    with generation_db.transaction() as another_worker:
        another_worker.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": claims.CLAIM_LOCK})
        waiting.start()
        until(lambda: waits_for_a_lock(generation_db), what="the second worker")
        # It saw a queue in which this one came first; what has come since it leaves to us.
        another_worker.execute(
            sa.update(Operation)
            .where(Operation.id == second)
            .values(status="running", lease_until=sa.func.clock_timestamp() + sa.text("interval '9 s'"))
        )
    waiting.join()

    assert mine == []


def waits_for_a_lock(db: Database) -> bool:
    with db.transaction() as session:
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(session.execute(waiting).scalar_one())


def test_live_work_goes_first_whenever_it_came_and_whosever_it_is(generation_db: Database, engine: Engine) -> None:
    one, other = new_id("org"), new_id("org")
    submitted(generation_db, engine, variants=2, org_id=one, livemode=False)
    submitted(generation_db, engine, variants=3, org_id=one)
    submitted(generation_db, engine, variants=3, org_id=other)

    assert lanes(claim(generation_db, free=6)) == {0: 6}
    assert lanes(claim(generation_db, free=6)) == {2: 1}


def test_where_nobody_else_has_anything_due_test_work_is_done_at_once(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1, livemode=False)

    (item,) = claim(generation_db, free=1, limit=1, per_organization=1)

    assert (item.lane, item.provider) == (2, "local")


def test_test_work_takes_none_of_its_organizations_places(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    submitted(generation_db, engine, variants=2, org_id=org_id, livemode=False)
    claim(generation_db)
    submitted(generation_db, engine, variants=4, org_id=org_id)

    assert lanes(claim(generation_db, per_organization=3)) == {0: 3}


def test_live_work_takes_none_of_the_one_place_for_test_work(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    submitted(generation_db, engine, variants=4, org_id=org_id)
    submitted(generation_db, engine, variants=2, org_id=org_id, livemode=False)

    assert lanes(claim(generation_db, per_organization=3)) == {0: 3, 2: 1}


def test_test_work_leaves_half_of_a_provider_to_what_is_paid_for(generation_db: Database, engine: Engine) -> None:
    for _ in range(5):
        submitted(generation_db, engine, variants=1, livemode=False)
    tests = claim(generation_db, limit=4) + claim(generation_db, limit=4)
    submitted(generation_db, engine, variants=8)

    live = claim(generation_db, limit=4)

    assert (lanes(tests), lanes(live)) == ({2: 2}, {0: 2})


def test_test_work_is_not_claimed_for_a_place_that_live_work_takes(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1, livemode=False)
    submitted(generation_db, engine, variants=3)

    assert lanes(claim(generation_db, limit=3)) == {0: 3}


def test_a_place_in_the_queue_is_among_those_of_the_same_mode(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    live = [submitted(generation_db, engine, org_id=org_id) for _ in range(3)]
    test = [submitted(generation_db, engine, org_id=org_id, livemode=False) for _ in range(2)]

    assert [job_of(generation_db, job_id)["queue_position"] for job_id in live] == [1, 2, 3]
    assert [job_of(generation_db, job_id)["queue_position"] for job_id in test] == [1, 2]


def test_how_much_test_work_waits_is_measured_apart(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=3, livemode=False)
    submitted(generation_db, engine, variants=2)

    with generation_db.transaction() as session:
        metrics.measure(session)

    depth = {labels["lane"]: value for labels, value in samples()}
    assert depth == {"interactive": 2, "standard": 0, "test": 3}


def samples() -> list[tuple[dict[str, str], float]]:
    (gauge,) = metrics.queue_depth.collect()
    return [(sample.labels, sample.value) for sample in gauge.samples]


def test_a_place_in_the_queue_is_told_from_the_first_of_those_who_wait(
    generation_db: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MOST_AHEAD", 2)
    org_id = new_id("org")
    waiting = [submitted(generation_db, engine, org_id=org_id, variants=1) for _ in range(4)]

    assert [job_of(generation_db, job_id)["queue_position"] for job_id in waiting] == [1, 2, 3, 3]
