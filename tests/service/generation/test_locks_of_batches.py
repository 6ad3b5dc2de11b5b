"""Whoever writes several operations locks them in the one order of ids, whatever order they come in."""

import threading

import sqlalchemy as sa

from services.generation import writes
from services.generation.engine import Engine
from services.generation.operations import GiveUp, Spent
from services.generation.writes import Ending
from shared.database import Database
from tests.polling import until
from tests.service.generation.steps import begun, claim, job_of, submitted

_LOCK = sa.text("SELECT id FROM operations WHERE id = :id FOR UPDATE NOWAIT")
_WAITS = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")


def test_what_waits_for_one_operation_holds_none_that_a_heartbeat_locks_after_it(
    generation_db: Database, engine: Engine
) -> None:
    job_ids = [submitted(generation_db, engine, variants=1) for _ in range(2)]
    low, high = sorted(begun(generation_db, claim(generation_db)), key=lambda item: item.id)
    endings = [
        Ending(item=item, decision=GiveUp(code="invalid_input", detail=""), used=Spent()) for item in (high, low)
    ]
    recording = threading.Thread(target=writes.record, args=(engine, generation_db, endings))

    with generation_db.transaction() as heartbeat:
        heartbeat.execute(_LOCK, {"id": low.id})
        recording.start()
        until(lambda: waiting(generation_db), seconds=3, what="a batch that waits")
        held = heartbeat.execute(_LOCK, {"id": high.id}).scalar_one()
    recording.join()

    assert held == high.id
    assert [job_of(generation_db, job_id)["status"] for job_id in job_ids] == ["failed", "failed"]


def waiting(db: Database) -> int:
    with db.transaction() as session:
        return session.scalar(_WAITS) or 0
