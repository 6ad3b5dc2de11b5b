"""Leading operations that wait for a provider in vain to the next of their route: it is certain that nobody ran them.

It is the route that opts in: one that names one provider has nowhere else to go.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.generation import breaker, circuits, endings
from services.generation.breaker import Circuit
from services.generation.claims import CLAIM_LOCK
from services.generation.engine import Engine
from services.generation.providers import candidates
from shared.database import Database

log = structlog.get_logger(__name__)

MOST = 500
# Said before anything was begun: of all others a vendor may have done, and billed, a part. An error of the vendor's own
# is such an answer where it was the one to the request: not once it had taken the work.
_NEVER_RAN = ("rate_limited", "capacity", "connect_failed")
_NOT_TAKEN = "provider_error"

# Claims come one after the other, and this between two of them: none sees an operation that is half elsewhere.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(:lock)")
_GO = sa.text("""
UPDATE operations SET provider = :to_provider, model_requested = :to_model, due_at = least(due_at, clock_timestamp())
WHERE id IN (
    SELECT o.id FROM operations o
    WHERE o.status = 'queued' AND o.due_at IS NOT NULL AND o.livemode
      AND o.provider = :provider AND o.model_requested = :model AND o.name = :name
      AND NOT EXISTS (
          SELECT FROM attempts a WHERE a.operation_id = o.id
            AND NOT (a.status = 'failed' AND coalesce(a.cost_microusd, 0) = 0 AND (
                a.error_code = ANY (CAST(:never_ran AS text[]))
                OR a.error_code = :not_taken AND a.external_id IS NULL
            ))
      )
    LIMIT :most FOR UPDATE OF o SKIP LOCKED
)
""")


@dataclass(frozen=True, kw_only=True)
class Detour:
    """From a provider's model to another's, for one operation."""

    name: str
    provider: str
    model: str
    to_provider: str
    to_model: str


def go_elsewhere(db: Database, engine: Engine) -> int:
    """Lead what waits for models that stand still to others of their routes that do not; return how many operations.

    Those of test keys have one provider only, and stay.
    """
    named = {name for names in engine.routes.values() for name in names}
    with db.transaction() as session:
        known, now = circuits.known(session, named), endings.database_now(session)
        detours = list(_detours(engine, known, now=now))
        return sum(_go(session, detour) for detour in detours)


def _detours(engine: Engine, known: Mapping[tuple[str, str], Circuit], *, now: datetime) -> Iterator[Detour]:
    still = {model for model, circuit in known.items() if breaker.stands_still(circuit, now=now)}
    for provider, model in sorted(still):
        for name in sorted(name for name, names in engine.routes.items() if provider in names):
            others = candidates(name, routes=engine.routes, providers=engine.providers)
            to = next((one for one in others if (one.name, one.model_for(name)) not in still), None)
            if to is not None and to.name != provider:
                yield Detour(
                    name=name, provider=provider, model=model, to_provider=to.name, to_model=to.model_for(name)
                )


def _go(session: Session, detour: Detour) -> int:
    session.execute(_LOCK, {"lock": CLAIM_LOCK})
    changed: Any = session.execute(
        _GO, {**vars(detour), "never_ran": list(_NEVER_RAN), "not_taken": _NOT_TAKEN, "most": MOST}
    )
    if changed.rowcount:
        log.warning("operations_go_elsewhere", operations=changed.rowcount, **vars(detour))
    return int(changed.rowcount)
