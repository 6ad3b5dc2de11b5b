"""The usual way, the ledger: Flask around the ORM's reservation under SELECT FOR UPDATE."""

import os
from functools import cache
from typing import Any

import sqlalchemy as sa
from flask import Flask, jsonify, request
from sqlalchemy.orm import Session

from benchmarks import writers
from benchmarks.contenders import orm_holds
from benchmarks.contenders.plain_tables import Account


def app() -> Flask:
    """Return the application, with a pooled connection to its database for each thread."""
    engine = sa.create_engine(os.environ["DATABASE_URL"], pool_size=int(os.environ["THREADS"]), max_overflow=0)
    flask_app = Flask("credits")

    @cache
    def holder_of(org_id: str) -> int:
        with Session(engine) as session:
            held = sa.select(Account.id).where(Account.org_id == org_id, Account.kind == "held")
            return session.scalars(held).one()

    @flask_app.get("/readyz")
    def ready() -> str:
        return "ok"

    @flask_app.post("/reservations")
    def reserve() -> Any:
        asked = request.get_json()
        try:
            with Session(engine) as session, session.begin():
                wallet = orm_holds.reserve(
                    session,
                    asked["org_id"],
                    asked["lines"],
                    holder_id=holder_of(asked["org_id"]),
                    job_id=asked["job_id"],
                )
                answer = {"available": wallet.available, "held": wallet.held_total, "version": wallet.version}
        except orm_holds.NotEnough:
            return jsonify(code="insufficient_credits"), 402
        return jsonify(amount=writers.AMOUNT, **answer), 201

    return flask_app
