"""How the providers do, for operators: what each may bear, what it bears now, and how its models do. Locks nothing."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import model_lifecycle
from services.generation.breaker import burst
from services.generation.engine import Engine
from services.generation.jobs import AT_WORK
from services.generation.providers import Provider

_NOTHING = {"at_work": 0, "waiting": 0, "longest_wait_seconds": None}
_BURDEN = sa.text(f"""
SELECT provider, count(*) FILTER (WHERE status <> 'queued') AS at_work,
       count(*) FILTER (WHERE status = 'queued' AND due_at <= clock_timestamp()) AS waiting,
       round(CAST(extract(epoch FROM clock_timestamp() - min(due_at) FILTER (
           WHERE status = 'queued' AND due_at <= clock_timestamp()
       )) AS numeric), 1) AS longest_wait_seconds
FROM operations
WHERE status IN ({", ".join(f"'{status}'" for status in AT_WORK)}) OR (status = 'queued' AND due_at IS NOT NULL)
GROUP BY provider
""")
_TOKENS = sa.text("""
SELECT provider, greatest(0, floor(tokens + per_minute / 60.0 * extract(epoch FROM clock_timestamp() - refilled_at)))
FROM loads WHERE per_minute IS NOT NULL
""")


def providers(session: Session, engine: Engine) -> list[dict[str, Any]]:
    """Return the providers that are set up, by name.

    Args:
        session: of the system role.
        engine: what is set up in this process.

    Returns:
        For each ``{name, operations, concurrency, requests_per_minute, requests_left, time_limit_seconds, calls_back,
        after_lost_answer, at_work, waiting, longest_wait_seconds, models}``: ``requests_left`` may be sent at once
        (None where it is not limited, or was not asked yet); ``models`` as `model_lifecycle.shown` has them.
    """
    burdens = {row["provider"]: dict(row) for row in session.execute(_BURDEN).mappings()}
    left: dict[str, float] = {provider: tokens for provider, tokens in session.execute(_TOKENS)}  # noqa: C416  rows are no pairs
    models = model_lifecycle.shown(session, engine)
    return [
        _shown(provider, burden=burdens.get(name, {}), requests_left=left.get(name))
        | {"models": [model for model in models if model["provider"] == name]}
        for name, provider in sorted(engine.providers.items())
    ]


def _shown(provider: Provider, *, burden: Mapping[str, Any], requests_left: float | None) -> dict[str, Any]:
    now = {**_NOTHING, **burden}
    waits, at_a_stroke = now["longest_wait_seconds"], burst(provider.requests_per_minute)
    return {
        "name": provider.name,
        "operations": sorted(provider.operations),
        "concurrency": provider.concurrency,
        "requests_per_minute": provider.requests_per_minute,
        "requests_left": None if at_a_stroke is None or requests_left is None else int(min(at_a_stroke, requests_left)),
        "time_limit_seconds": provider.time_limit_seconds,
        "calls_back": provider.calls_back,
        "after_lost_answer": provider.after_lost_answer,
        "at_work": now["at_work"],
        "waiting": now["waiting"],
        "longest_wait_seconds": None if waits is None else float(waits),
    }
