"""Idempotency-Key: a request that is sent again is answered again, and what it makes is made once.

The id of what a request makes is committed before anything else is called, so that whoever takes the request up
after a crash goes on with the same id.
"""

import contextvars
import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from shared import budget
from shared.crash import crash_point
from shared.database import Database
from shared.gathering import Gathering
from shared.http import Answer, Guard, Outcome, Request, Waiting
from shared.http_schemas import error_at
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, Problem

log = structlog.get_logger(__name__)

LEASE_SECONDS = 10
KEPT_DAYS = 7
ADMIN = "admin"
REPLAYED = "Idempotency-Replayed"
_HEADER = "Idempotency-Key"
_PRUNED_AT_ONCE = 5000
# What is left for writing the end down where the request's own time is used up.
_SETTLE_SECONDS = 0.2
_PIECE_BYTES = 1 << 20
_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?", re.ASCII)
_BOUNDARY = re.compile(r'boundary="?([^";,]+)', re.IGNORECASE)

# In the one order of the key's columns: two that take the same keys must not lock each other out.
_TAKE = sa.text(f"""
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:places AS integer[]), CAST(:org_ids AS text[]), CAST(:principal_ids AS text[]),
            CAST(:keys AS text[]), CAST(:fingerprints AS text[]), CAST(:resource_ids AS text[]))
            AS a (place, org_id, principal_id, key, fingerprint, resource_id)
    ), taken AS (
        INSERT INTO idempotency_keys AS known (org_id, principal_id, key, fingerprint, resource_id, lease_until)
        SELECT org_id, principal_id, key, fingerprint, resource_id, now() + interval '{LEASE_SECONDS} seconds'
        FROM asked ORDER BY org_id, principal_id, key
        ON CONFLICT (org_id, principal_id, key) DO UPDATE
            SET lease_until = excluded.lease_until, tries = known.tries + 1
            WHERE known.fingerprint = excluded.fingerprint AND known.body IS NULL AND known.lease_until <= now()
        RETURNING org_id, principal_id, key, resource_id, tries, status
    )
    SELECT a.place, true AS ours, t.resource_id, t.tries, NULL AS fingerprint, t.status, NULL AS body, NULL AS headers,
        0 AS leased
    FROM taken t JOIN asked a USING (org_id, principal_id, key)
    UNION ALL
    SELECT a.place, false, k.resource_id, k.tries, k.fingerprint, k.status, k.body, k.headers,
        extract(epoch FROM k.lease_until - now())
    FROM asked a JOIN idempotency_keys k USING (org_id, principal_id, key)
    WHERE (org_id, principal_id, key) NOT IN (SELECT org_id, principal_id, key FROM taken)
""")
_MINE = "WHERE org_id = :org_id AND principal_id = :principal_id AND key = :key AND tries = :tries AND body IS NULL"
KEEP = sa.text("""
    UPDATE idempotency_keys AS k
    SET status = a.status, body = a.body, headers = CAST(a.headers AS jsonb), lease_until = now()
    FROM unnest(CAST(:org_ids AS text[]), CAST(:principal_ids AS text[]), CAST(:keys AS text[]),
        CAST(:tries AS integer[]), CAST(:statuses AS integer[]), CAST(:bodies AS text[]), CAST(:headers AS text[]))
        AS a (org_id, principal_id, key, tries, status, body, headers)
    WHERE k.org_id = a.org_id AND k.principal_id = a.principal_id AND k.key = a.key AND k.tries = a.tries
        AND k.body IS NULL
""")
LET_GO = sa.text(f"UPDATE idempotency_keys SET lease_until = now() {_MINE}")
FORGET = sa.text(f"DELETE FROM idempotency_keys {_MINE}")
_RENEW = sa.text(f"UPDATE idempotency_keys SET resource_id = :resource_id {_MINE}")
_PRUNE = sa.text(f"""
    DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM idempotency_keys WHERE created_at < now() - interval '{KEPT_DAYS} days'
        ORDER BY created_at LIMIT {_PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED
    ))
""")


class IdempotencyKeyRequired(BadRequest):
    """A request that can hold credits has no Idempotency-Key."""

    code = "idempotency_key_required"
    title = "An Idempotency-Key is needed"
    remedy = "Send an `Idempotency-Key` of your own for each thing you want, a UUID for instance."


class IdempotencyKeyReused(Problem):
    """The key came before, with another method, path or body."""

    status = 422
    code = "idempotency_key_reused"
    title = "This Idempotency-Key belongs to another request"
    remedy = "Use a new key for a new request; to repeat a request, send it unchanged."


class RequestInProgress(Conflict):
    """The same request is being worked on."""

    code = "request_in_progress"
    title = "The same request is being answered right now"
    remedy = "Send the same request again after `Retry-After` seconds to get its answer."
    retryable = True


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a key is unique. ``org_id`` is None for administrators."""

    org_id: str | None
    principal_id: str
    key: str

    def bound(self) -> dict[str, Any]:
        """Return the values of the statements above."""
        return {"org_id": self.org_id or ADMIN, "principal_id": self.principal_id, "key": self.key}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to do a request's work: under ``resource_id``, which an earlier try may have begun with.

    ``key`` is None for a request without one; ``answered`` says that an earlier try was answered.
    """

    resource_id: str
    key: str | None = None
    tries: int = 1
    answered: bool = False

    @property
    def again(self) -> bool:
        """Whether somebody was at it before."""
        return self.tries > 1


def idempotent(*, prefix: str, required: bool = False, keeps_answer: bool = True) -> Guard:
    """Return the guard of a route that makes something whose id begins with ``prefix``.

    Args:
        prefix: the kind of id; ``request.claim.resource_id`` is one.
        required: whether the route refuses requests without a key.
        keeps_answer: False where the answer holds a secret: then the handler is called again in its place, and
            has to answer alike for the same id and key.
    """

    def guard(service: Any, request: Request, proceed: Callable[[], Outcome]) -> Outcome:
        key = key_of(request, required=required)
        if key is None:
            request.claim = Claim(resource_id=new_id(prefix))
            return proceed()
        scope = Scope(org_id=request.asker.org_id, principal_id=request.asker.id, key=key)
        taken = take(service.db, scope, fingerprint=fingerprint(request), resource_id=new_id(prefix))
        if isinstance(taken, Answer):
            return taken
        request.claim = taken
        crash_point("gateway.key_taken")
        return _drive(service.db, scope, taken, proceed, keeps_answer=keeps_answer)

    return guard


def take(db: Database, scope: Scope, *, fingerprint: str, resource_id: str) -> Claim | Answer:
    """Claim the request for 10 s, or return the answer it got before.

    Raises:
        RequestInProgress: somebody else has it.
        IdempotencyKeyReused: the key belongs to another request.
    """
    row = _take_with_others(db, Asked(scope=scope, fingerprint=fingerprint, resource_id=resource_id))
    if row.ours:
        return Claim(resource_id=row.resource_id, key=scope.key, tries=row.tries, answered=row.status is not None)
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key came before with another request; use a new key for a new request."
        )
    if row.body is None:
        seconds = max(1, min(math.ceil(row.leased), 2))
        raise RequestInProgress("The same request is being answered; ask again in a moment.", retry_after=seconds)
    return Answer(row.status, msgspec.json.decode(row.body), {**row.headers, REPLAYED: "true"})


def renew(db: Database, scope: Scope, claim: Claim, *, resource_id: str) -> None:
    """Let the request go on under another id: what was begun under the first has ended without being accepted."""
    with db.transaction(org_id=scope.org_id) as session:
        session.execute(_RENEW, {**scope.bound(), "tries": claim.tries, "resource_id": resource_id})


def prune(db: Database) -> int:
    """Forget the keys of more than 7 days ago; return how many."""
    with db.transaction() as session:
        result: Any = session.execute(_PRUNE)
        return int(result.rowcount)


def key_of(request: Request, *, required: bool) -> str | None:
    """Return the request's Idempotency-Key.

    Raises:
        IdempotencyKeyRequired: it has none, and needs one.
        BadRequest: it is no printable ASCII of at most 255 characters.
    """
    key = request.headers.get(_HEADER)
    if key is None:
        if required:
            raise IdempotencyKeyRequired(
                f"Send {_HEADER} with a value of your own for each job you want, a UUID for instance: "
                "then sending a request again never pays twice."
            )
        return None
    if not _KEY.fullmatch(key):
        problem = error_at(f"/headers/{_HEADER}", "invalid", "1 to 255 printable ASCII characters")
        raise BadRequest(f"The {_HEADER} must be 1 to 255 printable ASCII characters.", errors=[problem])
    return key


def fingerprint(request: Request) -> str:
    """Return what makes two requests the same: method, full path, body.

    The boundary of a form is left out: clients choose it anew each time they send the same form.
    """
    body = request.raw
    boundary = _BOUNDARY.search(request.headers.get("Content-Type", ""))
    if boundary:
        body = body.replace(boundary[1].encode(), b"")
    digest = hashlib.sha256(f"{request.method} {request.full_path}\n".encode())
    for start in range(0, len(body), _PIECE_BYTES):
        digest.update(memoryview(body)[start : start + _PIECE_BYTES])
        time.sleep(0)  # other green threads run between two pieces
    return digest.hexdigest()


def _drive(db: Database, scope: Scope, claim: Claim, proceed: Callable[[], Outcome], *, keeps_answer: bool) -> Outcome:
    try:
        outcome = proceed()
    except Exception as error:
        settle(db, scope, claim, _after_refusal(error, claim))
        raise
    crash_point("gateway.answered")
    first = outcome.first if isinstance(outcome, Waiting) else outcome
    _settle(claim, lambda: _keep_with_others(db, _kept(scope, claim, first, keeps_answer=keeps_answer)))
    if claim.answered and isinstance(outcome, Answer):
        return outcome.with_headers({REPLAYED: "true"})
    return outcome


def _after_refusal(error: Exception, claim: Claim) -> Any:
    """Choose what becomes of the key: kept with its id where something may have been begun under it.

    402 comes from whoever would have accepted, so then nothing was, however many tries there were.
    """
    status = error.status if isinstance(error, Problem) else HTTPStatus.INTERNAL_SERVER_ERROR
    refused = status < HTTPStatus.INTERNAL_SERVER_ERROR
    return FORGET if refused and (not claim.again or status == HTTPStatus.PAYMENT_REQUIRED) else LET_GO


def _kept(scope: Scope, claim: Claim, answer: Answer, *, keeps_answer: bool) -> "Kept":
    return Kept(
        scope=scope,
        tries=claim.tries,
        status=int(answer.status),
        body=msgspec.json.encode(answer.body).decode() if keeps_answer else None,
        headers=msgspec.json.encode(dict(answer.headers)).decode(),
    )


def settle(db: Database, scope: Scope, claim: Claim, statement: Any) -> None:
    """Write that the request ended without an answer to keep: LET_GO or FORGET."""

    def write() -> None:
        with db.transaction(org_id=scope.org_id) as session:
            session.execute(statement, {**scope.bound(), "tries": claim.tries})

    _settle(claim, write)


def _settle(claim: Claim, write: Callable[[], Any]) -> None:
    """Write how the request ended.

    Where that fails, the lease runs out and the request is driven again, under the same id: no harm is done.
    """

    def within(seconds: float) -> None:
        with budget.limited_to(seconds):
            write()

    try:
        contextvars.Context().run(within, _seconds_left())  # outside the request's budget, which may be used up
    except Exception as error:  # noqa: BLE001  the request has its answer, whatever happens here
        log.warning("idempotency_key_not_settled", resource_id=claim.resource_id, error_type=type(error).__name__)


def _seconds_left() -> float:
    try:
        return max(_SETTLE_SECONDS, budget.remaining_seconds(1.0))
    except budget.TimeLimitExceeded:
        return _SETTLE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A key somebody wants to claim."""

    scope: Scope
    fingerprint: str
    resource_id: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer that somebody wants to keep."""

    scope: Scope
    tries: int
    status: int
    body: str | None
    headers: str


def take_together(db: Database, asked: Sequence[Asked]) -> list[Any]:
    """Claim keys, of any organizations, with one statement and one commit; return the row of each.

    A key that is asked for twice is claimed by the first, and the second finds it claimed.
    """
    found: dict[int, Any] = {}
    with db.transaction(org_id=_only_organization(asked)) as session:
        # What is left after a round was asked for twice, or written by another request within this very moment.
        while left := [place for place in range(len(asked)) if place not in found]:
            first = {asked[place].scope: place for place in reversed(left)}
            values = _take_arguments({place: asked[place] for place in first.values()})
            found |= {row.place: row for row in session.execute(_TAKE, values)}
    return [found[place] for place in range(len(asked))]


def _take_arguments(asked: Mapping[int, Asked]) -> dict[str, Any]:
    bound = [each.scope.bound() for each in asked.values()]
    return {
        "places": list(asked),
        "org_ids": [each["org_id"] for each in bound],
        "principal_ids": [each["principal_id"] for each in bound],
        "keys": [each["key"] for each in bound],
        "fingerprints": [each.fingerprint for each in asked.values()],
        "resource_ids": [each.resource_id for each in asked.values()],
    }


def keep_together(db: Database, kept: Sequence[Kept]) -> list[None]:
    """Keep answers, of any organizations, with one statement and one commit."""
    in_order = sorted(kept, key=lambda each: (each.scope.org_id or ADMIN, each.scope.principal_id, each.scope.key))
    bound = [each.scope.bound() for each in in_order]
    values = {
        "org_ids": [each["org_id"] for each in bound],
        "principal_ids": [each["principal_id"] for each in bound],
        "keys": [each["key"] for each in bound],
        "tries": [each.tries for each in in_order],
        "statuses": [each.status for each in in_order],
        "bodies": [each.body for each in in_order],
        "headers": [each.headers for each in in_order],
    }
    with db.transaction(org_id=_only_organization(kept)) as session:
        session.execute(KEEP, values)
    return [None] * len(kept)


def _only_organization(several: Sequence[Asked | Kept]) -> str | None:
    """Return the organization of all of them; None where they are of several, or of none."""
    organizations = {each.scope.org_id for each in several}
    return organizations.pop() if len(organizations) == 1 else None


# Two commits a request are most of what the gateway's own database does: those of requests at the same time are one.
_take_with_others: Gathering[Database, Asked, Any] = Gathering(take_together)
_keep_with_others: Gathering[Database, Kept, None] = Gathering(keep_together)
