"""A worker's steps with asynchronous providers, one at a time."""

from typing import Any

import sqlalchemy as sa

from services.generation import asking, claims, sweeper
from services.generation.asking import Due
from services.generation.engine import Engine
from services.generation.models import Attempt, Operation
from services.generation.poller import Poller
from services.generation.scheduler import Scheduler
from services.generation.settling import Settlement
from services.generation.sweeper import Suspects
from shared.database import Database
from shared.storage import ObjectStore
from tests.service.generation.steps import begun, lapse


class Worker:
    """One worker, whose every step the test takes."""

    def __init__(self, db: Database, store: ObjectStore, engine: Engine, *, name: str = "w") -> None:
        self.db = db
        self.engine = engine
        self.name = name
        self.scheduler = Scheduler(db, store, engine, worker=name, slots=4, per_organization=20)
        self.poller = Poller(db, engine, Settlement(db, store, engine, held={}), worker=name)

    def claim(self) -> list[claims.Claimed]:
        with self.db.transaction() as session:
            limits = dict.fromkeys(self.engine.providers, 100)
            claimed = claims.claim(session, worker=self.name, free=10, limits=limits, per_organization=20)
        return begun(self.db, claimed)

    def send(self) -> None:
        for item in self.claim():
            self.scheduler.carry(item)

    def due(self) -> list[Due]:
        """Claim everything there is to ask for, as if its time had come."""
        execute(self.db, "UPDATE operations SET poll_at = clock_timestamp() WHERE poll_at IS NOT NULL")
        with self.db.transaction() as session:
            return asking.due(session, worker=self.name, most=10)

    def ask(self) -> None:
        for each in self.due():
            self.poller.follow(each)

    def recover(self) -> None:
        """Let every lease run out, and decide about what was held."""
        lapse(self.db)
        sweeper.recover_lost_operations(self.db, self.engine, Suspects(patience_seconds=0))


def execute(db: Database, statement: str, **values: Any) -> None:
    with db.transaction() as session:
        session.execute(sa.text(statement), values)


def operation_of(db: Database, job_id: str) -> Operation:
    with db.transaction() as session:
        return session.scalars(sa.select(Operation).where(Operation.job_id == job_id)).one()


def attempts_of(db: Database, job_id: str) -> list[Attempt]:
    with db.transaction() as session:
        return list(session.scalars(sa.select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.attempt)))
