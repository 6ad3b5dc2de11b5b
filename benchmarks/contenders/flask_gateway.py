"""The usual way, the gateway: Flask and the ORM; the API key, the Idempotency-Key, the schema, then a call onwards.

It has the tables of ours, without roles and policies. A photo is not looked up, and nothing is logged: less work than
ours does.
"""

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
import sqlalchemy as sa
from flask import Flask, Response, jsonify, request
from marshmallow import ValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.gateway.models import ApiKey, IdempotencyKey, Member
from services.gateway.schemas.jobs import StagingRequest
from shared.ids import new_id

CALL_SECONDS = 15.0  # ours gives up after 2 s, and is asked again; this one cannot take a request up again
LEASE = timedelta(seconds=10)


def pooled_session(threads: int) -> requests.Session:
    """Return an HTTP client that keeps a connection for each thread."""
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=threads))
    return session


def app() -> Flask:
    """Return the application, with a pooled connection to its database for each thread."""
    threads = int(os.environ["THREADS"])
    engine = sa.create_engine(os.environ["DATABASE_URL"], pool_size=threads, max_overflow=0)
    generation, generation_url = pooled_session(threads), os.environ["NEXT_URL"]
    schema = StagingRequest()
    flask_app = Flask("gateway")

    @flask_app.get("/readyz")
    def ready() -> str:
        return "ok"

    @flask_app.post("/v1/stagings")
    def create_staging() -> Any:
        with Session(engine) as session:
            asker = _asker(session)
            if asker is None:
                return jsonify(code="unauthenticated"), 401
            try:
                claim = _claim(session, asker)
            except IntegrityError:
                session.rollback()
                return _known(session, asker)
        try:
            asked = schema.load(request.get_json())
        except ValidationError as error:
            return jsonify(code="invalid", errors=error.messages), 400
        answer = generation.post(
            f"{generation_url}/jobs",
            json={"job_id": claim, "org_id": asker.org_id, "user_id": asker.user_id, "workflow": "staging", **asked},
            timeout=CALL_SECONDS,
        )
        if answer.status_code == 202:
            _keep(engine, asker, answer.text)
        return Response(answer.text, answer.status_code, {"Location": f"/v1/jobs/{claim}"}, "application/json")

    return flask_app


def _asker(session: Session) -> Any:
    secret = request.headers.get("Authorization", "").removeprefix("Bearer ")
    statement = (
        sa.select(ApiKey)
        .join(Member, sa.and_(Member.org_id == ApiKey.org_id, Member.id == ApiKey.user_id))
        .where(ApiKey.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest(), ApiKey.revoked_at.is_(None))
    )
    asker = session.scalars(statement).one_or_none()
    if asker is not None:
        session.expunge(asker)
    return asker


def _claim(session: Session, asker: ApiKey) -> str:
    """Write the key down with the id of the job to be made, and commit."""
    job_id = new_id("job")
    session.add(
        IdempotencyKey(
            org_id=asker.org_id,
            principal_id=asker.id,
            key=request.headers["Idempotency-Key"],
            fingerprint=_fingerprint(),
            resource_id=job_id,
            lease_until=datetime.now(UTC) + LEASE,
        )
    )
    session.commit()
    return job_id


def _known(session: Session, asker: ApiKey) -> Any:
    row = session.get_one(IdempotencyKey, (asker.org_id, asker.id, request.headers["Idempotency-Key"]))
    if row.fingerprint != _fingerprint():
        return jsonify(code="idempotency_key_reused"), 422
    if row.body is None:
        return jsonify(code="request_in_progress"), 409
    return json.loads(row.body), row.status


def _keep(engine: sa.Engine, asker: ApiKey, body: str) -> None:
    with Session(engine) as session, session.begin():
        row = session.get_one(
            IdempotencyKey, (asker.org_id, asker.id, request.headers["Idempotency-Key"]), with_for_update=True
        )
        row.status, row.body, row.headers, row.lease_until = 202, body, {}, datetime.now(UTC)


def _fingerprint() -> str:
    return hashlib.sha256(f"{request.method} {request.full_path}\n".encode() + request.get_data()).hexdigest()
