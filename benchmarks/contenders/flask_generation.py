"""The usual way, the engine: Flask and the ORM; writes a job, calls for its credits, and queues it under a row lock.

It has the tables of ours, without roles, policies and indexes of the queue; prompts are not planned.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import Flask, jsonify, request
from sqlalchemy.orm import Session

from benchmarks.contenders.flask_gateway import CALL_SECONDS, pooled_session
from benchmarks.contenders.plain_tables import Outbox
from services.generation.models import Generation, Job, Operation
from shared import events
from shared.events import JobAccepted
from shared.ids import new_id

SKU = "staging.variant"
DEADLINE = timedelta(minutes=15)
SEED = 7


def app() -> Flask:
    """Return the application, with a pooled connection to its database for each thread."""
    threads = int(os.environ["THREADS"])
    engine = sa.create_engine(os.environ["DATABASE_URL"], pool_size=threads, max_overflow=0)
    credits_, credits_url = pooled_session(threads), os.environ["NEXT_URL"]
    flask_app = Flask("generation")

    @flask_app.get("/readyz")
    def ready() -> str:
        return "ok"

    @flask_app.post("/jobs")
    def create_job() -> Any:
        asked = request.get_json()
        with Session(engine) as session, session.begin():
            lines = _write(session, asked)
        answer = credits_.post(
            f"{credits_url}/reservations",
            json={"org_id": asked["org_id"], "job_id": asked["job_id"], "lines": lines},
            timeout=CALL_SECONDS,
        )
        if answer.status_code != 201:
            return answer.json(), answer.status_code
        with Session(engine) as session, session.begin():
            return jsonify(_queue(session, asked["job_id"], held=answer.json())), 202

    return flask_app


def _write(session: Session, asked: dict[str, Any]) -> list[str]:
    """Add the job, its generations, their operations and the event; return the generations' ids."""
    now = datetime.now(UTC)
    about = {"org_id": asked["org_id"], "job_id": asked["job_id"]}
    job = Job(
        id=asked["job_id"],
        org_id=asked["org_id"],
        user_id=asked["user_id"],
        workflow=asked["workflow"],
        inputs={name: asked[name] for name in ("upload_id", "style", "room_type", "variants")},
        assets={},
        status="awaiting_credit",
        livemode=True,
        total=asked["variants"],
        open_generations=asked["variants"],
        estimated_seconds=20,
        deadline_at=now + DEADLINE,
    )
    session.add(job)
    session.flush()
    made = [
        Generation(
            id=new_id("gen"), **about, number=number, status="queued", livemode=True, sku=SKU, seed=SEED,
            settings={}, style=asked["style"], room_type=asked["room_type"],
        )
        for number in range(1, asked["variants"] + 1)
    ]  # fmt: skip
    session.add_all(made)
    session.flush()
    session.add_all(
        Operation(
            id=new_id("op"), **about, user_id=asked["user_id"], generation_id=one.id, position=0, name="image.stage",
            status="queued", livemode=True, lane=0, provider="local", model_requested="local", prompt_version="1",
            prompt="A furnished room", inputs={"sources": [], "parameters": {}}, seed=SEED, makes_image=True,
        )
        for one in made
    )  # fmt: skip
    accepted = JobAccepted(
        job_id=job.id,
        org_id=job.org_id,
        user_id=job.user_id,
        workflow=job.workflow,
        generations=job.total,
        deadline_at=job.deadline_at.isoformat(),
        meta=events.correlated(None),
    )
    session.add(Outbox(event_id=new_id("evt"), type="JobAccepted", body=events.encode(accepted).decode()))
    return [one.id for one in made]


def _queue(session: Session, job_id: str, *, held: dict[str, Any]) -> dict[str, Any]:
    """Let the job's operations begin; return the job as a client sees it."""
    job = session.get_one(Job, job_id, with_for_update=True)
    job.status = "queued"
    made = session.scalars(sa.select(Generation).where(Generation.job_id == job_id).order_by(Generation.number)).all()
    for one in made:
        one.amount = held["amount"]
    for operation in session.scalars(sa.select(Operation).where(Operation.job_id == job_id)):
        operation.due_at = datetime.now(UTC)
    return {
        "id": job.id,
        "workflow": job.workflow,
        "status": job.status,
        "counts": {"total": job.total, "queued": job.open_generations},
        "generations": [
            {"id": one.id, "number": one.number, "status": one.status, "style": one.style, "room_type": one.room_type}
            for one in made
        ],
        "created_at": job.created_at.isoformat(),
        "deadline_at": job.deadline_at.isoformat(),
        "balance": {name: held[name] for name in ("available", "held", "version")},
    }
