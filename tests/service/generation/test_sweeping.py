import pytest
import sqlalchemy as sa

from services.generation import claims, sweeper
from services.generation.engine import Engine
from services.generation.sweeper import Suspects
from shared.database import Database
from tests.service.generation.steps import (
    a_claim,
    adopt,
    begun,
    claim,
    job_of,
    lapse,
    submitted,
)


def test_leases_that_ran_out_while_the_database_was_away_are_not_held_against_a_worker_that_is_alive(
    generation_db: Database, engine: Engine
) -> None:
    submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))
    lapse(generation_db)
    suspects = Suspects()
    sweeper.recover_lost_operations(generation_db, engine, suspects)

    with generation_db.transaction() as session:
        claims.heartbeat(session, [item])
    sweeper.recover_lost_operations(generation_db, engine, suspects)

    assert adopt(generation_db, engine, item)


def test_a_lease_is_lost_only_when_it_stays_run_out_for_longer_than_a_heartbeat() -> None:
    suspects = Suspects(patience_seconds=5)
    item, again = a_claim(fence=1), a_claim(fence=2)

    assert suspects.confirmed([item], now=0) == []
    assert suspects.confirmed([item, again], now=4.9) == []
    assert suspects.confirmed([item, again], now=5) == [item]
    assert suspects.confirmed([], now=6) == []
    assert suspects.confirmed([item], now=20) == []


def test_a_lease_that_was_prolonged_before_the_lock_is_not_recovered(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=1)
    (item,) = begun(generation_db, claim(generation_db))

    with generation_db.transaction() as session:
        lapsed = claims.has_lapsed(session, item)

    assert not lapsed


def test_a_job_that_cannot_be_ended_does_not_keep_the_others_from_it(generation_db: Database, engine: Engine) -> None:
    stuck, other = sorted(submitted(generation_db, engine) for _ in range(2))
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 s'"))
        session.execute(sa.text("UPDATE jobs SET open_generations = 1 WHERE id = :id"), {"id": stuck})

    sweeper.end_overdue_jobs(generation_db)

    assert (job_of(generation_db, stuck)["status"], job_of(generation_db, other)["status"]) == ("queued", "expired")


def test_however_many_are_overdue_one_sweep_ends_them(
    generation_db: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "MOST", 2)
    stuck, *others = [submitted(generation_db, engine, variants=1) for _ in range(6)]
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 s'"))
        session.execute(sa.text("UPDATE jobs SET open_generations = 2, total = 2 WHERE id = :id"), {"id": stuck})
        session.execute(
            sa.text("UPDATE jobs SET status = 'paused', paused_at = now() WHERE id = :id"), {"id": others[0]}
        )

    sweeper.end_overdue_jobs(generation_db)

    assert {job_of(generation_db, job_id)["status"] for job_id in others[1:]} == {"expired"}
    assert job_of(generation_db, others[0])["status"] == "paused"


def test_a_job_past_its_deadline_expires_and_gives_everything_back(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 s'"))

    sweeper.end_overdue_jobs(generation_db)

    job = job_of(generation_db, job_id)
    assert (job["status"], job["refunded"]) == ("expired", 20)
    assert claim(generation_db) == []
