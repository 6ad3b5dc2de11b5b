"""The circuits as rows: what outcomes make of them, for all workers, and the events of that. The rules: breaker.py."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import breaker, endings
from services.generation.breaker import Circuit
from services.generation.models import CircuitRow
from services.generation.operations import Outcome
from shared.events import Event, ProviderCircuitClosed, ProviderCircuitOpened
from shared.times import rfc3339

log = structlog.get_logger(__name__)

_FIELDS = [field.name for field in fields(Circuit)]


def note(session: Session, *, provider: str, model: str, outcomes: Sequence[tuple[str, Outcome]]) -> list[Event]:
    """Let outcomes count for a provider's model; return the events of a circuit that opens or closes.

    ``outcomes`` are in the order they came, each with its operation's id.

    It locks the model's row, so it belongs in a short transaction of its own, in which nothing else is locked. The
    usual case, success where nothing was wrong, writes and locks nothing.
    """
    said = [breaker.signal(outcome)[0] for _, outcome in outcomes]
    any_state = any(each not in {"nothing", "worked"} for each in said)
    if any_state:
        session.execute(insert(CircuitRow).values(provider=provider, model=model).on_conflict_do_nothing())
    elif "worked" not in said:
        return []
    row = session.scalars(_troubled(provider, model, any_state=any_state)).one_or_none()
    if row is None:
        return []
    now, events = endings.database_now(session), []
    for operation_id, outcome in outcomes:
        before = _circuit(row)
        after = breaker.after(before, outcome, operation_id=operation_id, now=now)
        for name in _FIELDS:
            setattr(row, name, getattr(after, name))
        events += _events(row.provider, row.model, before, after, now=rfc3339(now))
    session.flush()
    return events


def known(session: Session, providers: Collection[str]) -> dict[tuple[str, str], Circuit]:
    """Return the circuits of ``providers`` by provider and model; one that is missing is closed."""
    statement = sa.select(CircuitRow).where(CircuitRow.provider.in_(providers))
    return {(row.provider, row.model): _circuit(row) for row in session.scalars(statement)}


def as_dict(circuit: Circuit) -> dict[str, Any]:
    """Return what operators and clients may know of a circuit, times as text."""
    times = {
        name: value and rfc3339(value)
        for name, value in asdict(circuit).items()
        if name in {"opened_at", "paused_until", "failed_at"}
    }
    return {
        "state": circuit.state,
        "failures_in_a_row": circuit.failures,
        "last_failure": circuit.failure_code,
        "last_failure_at": times["failed_at"],
        "open_since": times["opened_at"],
        "paused_until": times["paused_until"],
    }


def _troubled(provider: str, model: str, *, any_state: bool) -> sa.Select[CircuitRow]:
    statement = sa.select(CircuitRow).where(CircuitRow.provider == provider, CircuitRow.model == model)
    if not any_state:
        statement = statement.where(sa.or_(CircuitRow.failures > 0, CircuitRow.state != "closed"))
    return statement.with_for_update()


def _circuit(row: CircuitRow) -> Circuit:
    return Circuit(**{name: getattr(row, name) for name in _FIELDS})


def _events(provider: str, model: str, before: Circuit, after: Circuit, *, now: str) -> list[Event]:
    if after.is_open and not before.is_open and after.probe_at:
        log.error("circuit_opened", provider=provider, model=model, code=after.failure_code)
        return [
            ProviderCircuitOpened(
                provider=provider,
                model=model,
                failures=after.failures,
                code=after.failure_code or "",
                opened_at=now,
                probe_at=rfc3339(after.probe_at),
            )
        ]
    if before.is_open and not after.is_open and before.opened_at:
        log.info("circuit_closed", provider=provider, model=model)
        return [
            ProviderCircuitClosed(provider=provider, model=model, opened_at=rfc3339(before.opened_at), closed_at=now)
        ]
    return []
