"""The models of this system as clients and operators see them: how each does just now, and which will end soon."""

import statistics
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import circuits, endings, model_registry
from services.generation.breaker import Circuit
from services.generation.engine import Engine
from services.generation.model_registry import Model
from services.generation.models import OperationTime, SunsetNotice
from shared.database import Database
from shared.events import Event, ModelSunsetApproaching

log = structlog.get_logger(__name__)


def shown(session: Session, engine: Engine, *, models: Sequence[Model] | None = None) -> list[dict[str, Any]]:
    """Return the registry's models of the providers that are set up, in its order.

    Returns:
        For each ``{provider, id, aliases, operations, valid_from, sunset, replacement, available, in_use_for,
        health}``.
        ``available``: it may be used today; ``in_use_for``: the operations it is the model of. ``health``
        is ``{status, state, failures_in_a_row, last_failure, last_failure_at, open_since, paused_until, p50_seconds}``:
        ``status`` is ``ok``, ``paused`` (by the vendor, for a while) or ``down``; ``p50_seconds`` is the median of the
        last 50 by operation.
    """
    now = endings.database_now(session)
    found = circuits.known(session, list(engine.providers))
    medians = _medians(session, list(engine.providers))
    return [
        _shown(model, engine, today=now.date())
        | {"health": _health(model, found.get((model.provider, model.id), Circuit()), medians, now=now)}
        for model in (model_registry.MODELS if models is None else models)
        if model.provider in engine.providers
    ]


def tell_of_sunsets(db: Database, engine: Engine, *, models: Sequence[Model] | None = None) -> int:
    """Publish, once for each, which models of the providers set up end within 30 days; return how many were new."""
    with db.transaction() as session:
        today = endings.database_now(session).date()
        ending = [one for one in model_registry.sunsets(today, models=models) if one.provider in engine.providers]
        events = _not_told_of(session, ending)
        db.publish(session, events)
    return len(events)


def _not_told_of(session: Session, ending: Sequence[Model]) -> list[Event]:
    events: list[Event] = []
    for model in ending:
        if model.sunset is None:
            continue
        new = (
            insert(SunsetNotice)
            .values(provider=model.provider, model=model.id, sunset=model.sunset)
            .on_conflict_do_nothing()
            .returning(SunsetNotice.model)
        )
        if session.execute(new).scalar_one_or_none() is None:
            continue
        log.warning("model_sunset_approaching", provider=model.provider, model=model.id, sunset=str(model.sunset))
        events.append(
            ModelSunsetApproaching(
                provider=model.provider,
                model=model.id,
                sunset=model.sunset.isoformat(),
                replacement=model.replacement,
            )
        )
    return events


def _shown(model: Model, engine: Engine, *, today: date) -> dict[str, Any]:
    provider = engine.providers[model.provider]
    used = [name for name in model.operations & provider.operations if provider.model_for(name) == model.id]
    return {
        "provider": model.provider,
        "id": model.id,
        "aliases": sorted(model.aliases),
        "operations": sorted(model.operations),
        "valid_from": model.valid_from.isoformat(),
        "sunset": model.sunset and model.sunset.isoformat(),
        "replacement": model.replacement,
        "available": model.is_valid(today),
        "in_use_for": sorted(used),
    }


def _health(
    model: Model, circuit: Circuit, medians: Mapping[tuple[str, str], float], *, now: datetime
) -> dict[str, Any]:
    paused = circuit.paused_until is not None and circuit.paused_until > now
    return {
        "status": "down" if circuit.is_open else "paused" if paused else "ok",
        **circuits.as_dict(circuit),
        "p50_seconds": {
            name: round(medians[model.provider, name], 3)
            for name in sorted(model.operations)
            if (model.provider, name) in medians
        },
    }


def _medians(session: Session, providers: Sequence[str]) -> dict[tuple[str, str], float]:
    statement = sa.select(OperationTime).where(OperationTime.provider.in_(providers))
    return {
        (row.provider, row.name): statistics.median(row.recent_seconds)
        for row in session.scalars(statement)
        if row.recent_seconds
    }
