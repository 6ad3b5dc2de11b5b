"""Analyses that are kept, by key, for one organization and mode each; and operations that wait for one.

A row is written when the first operation of its key is to be sent, and gets its result from that one, or from whichever
other answers first. Rows of it are locked last of all: after jobs and operations, in the order of their keys.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation.analyses import fits, schema_for
from services.generation.analysis_keys import analysis_key
from services.generation.models import Analysis, Operation
from services.generation.operations import Answered
from services.generation.rows import one_of

log = structlog.get_logger(__name__)

ANALYSES_CHANNEL = "analyses"
_FORGOTTEN_AT_ONCE = 1000
_OPEN = ("queued", "running", "storing", "unknown")
_OPEN_STATES = ", ".join(f"'{status}'" for status in _OPEN)
_IN_ORDER = (Analysis.org_id, Analysis.livemode, Analysis.key)
_WAITS = sa.and_(Operation.status == "queued", Operation.waits_since.is_not(None))

Key = tuple[str, bool, str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """An analysis somebody may take: of the operation ``operation_id``, as ``provider``'s ``model`` gave it."""

    operation_id: str
    provider: str
    model: str | None
    result: Mapping[str, Any]
    made_at: datetime


@dataclass(frozen=True, kw_only=True)
class Maker:
    """How far the operation is that an analysis is expected of.

    ``found`` is what it came to, if it did well; ``known`` what is kept by now, of it or of another.
    """

    operation_id: str
    is_open: bool
    found: Found | None = None
    known: Found | None = None


def among(session: Session, *, org_id: str, livemode: bool, keys: Collection[str], kept: timedelta) -> set[str]:
    """Return those of ``keys`` of which an analysis is known that is younger than ``kept``."""
    statement = sa.select(Analysis.key).where(
        Analysis.org_id == org_id, Analysis.livemode == livemode, one_of(Analysis.key, sorted(keys)), _younger(kept)
    )
    return set(session.scalars(statement))


def keep(session: Session, operation: Operation, answer: Answered) -> None:
    """Keep what an operation that makes no image has answered, in place of what was known before.

    It is known by who answered: where that was a fallback, those who ask the first one will ask it again.
    """
    digests, result = operation.inputs.get("digests"), answer.result
    if operation.makes_image or digests is None or result is None:
        return
    parameters = operation.inputs["parameters"]
    if not fits(result, schema_for(operation.name, parameters)):
        log.warning("analysis_not_kept", operation_id=operation.id, provider=operation.provider)
        return
    known: dict[str, Any] = {
        "operation_id": operation.id,
        "name": operation.name,
        "provider": operation.provider,
        "model_used": answer.model,
        "result": result,
        "made_at": sa.func.clock_timestamp(),
    }
    key = key_of(operation, digests)
    statement = insert(Analysis).values(org_id=operation.org_id, livemode=operation.livemode, key=key, **known)
    session.execute(statement.on_conflict_do_update(index_elements=["org_id", "livemode", "key"], set_=known))


def lock_found_out(session: Session, operation_ids: Collection[str]) -> None:
    """Lock, in the order of their keys, the rows of what several operations have found out, before any is written."""
    columns = ("id", "org_id", "livemode", "name", "prompt", "prompt_version", "provider", "model_requested", "inputs")
    statement = sa.select(*(getattr(Operation, name) for name in columns)).where(
        one_of(Operation.id, sorted(operation_ids)), Operation.makes_image.is_(False)
    )
    found: dict[Key, Any] = {
        (row.org_id, row.livemode, key_of(row, row.inputs["digests"])): row
        for row in session.execute(statement)
        if "digests" in row.inputs
    }
    if found:
        _write_expected(session, {key: (row.id, row.name, row.provider) for key, row in found.items()})
        session.execute(sa.select(Analysis.key).where(_one_of_keys(found)).order_by(*_IN_ORDER).with_for_update())


def key_of(operation: Any, digests: Sequence[str]) -> str:
    """Return by what the answer of ``operation`` (a row of it) is known, from whom it is asked now."""
    return analysis_key(
        operation.name,
        prompt=operation.prompt,
        prompt_version=operation.prompt_version,
        provider=operation.provider,
        model=operation.model_requested,
        digests=digests,
        parameters=operation.inputs["parameters"],
    )


def forget(session: Session, *, kept: timedelta) -> int:
    """Delete what is older than ``kept``, and what was expected of operations that are over; return how much."""
    age = sa.func.coalesce(Analysis.made_at, Analysis.created_at)
    is_open = sa.exists().where(Operation.id == Analysis.operation_id, Operation.status.in_(_OPEN))
    # What an open operation finds out is expected for as long as that takes.
    old = (
        sa.select(Analysis.org_id, Analysis.livemode, Analysis.key)
        .where(age < sa.func.clock_timestamp() - kept, sa.or_(Analysis.result.is_not(None), sa.not_(is_open)))
        .order_by(*_IN_ORDER)
        .limit(_FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    gone: Any = session.execute(
        sa.delete(Analysis).where(sa.tuple_(Analysis.org_id, Analysis.livemode, Analysis.key).in_(old)),
        execution_options={"synchronize_session": False},
    )
    return int(gone.rowcount)


# From key to key of what is waited for, so that it does not matter how many wait for the same; of each key, those who
# need wait no longer. One that was asked to be fresh may answer before the one that is waited for.
READY = sa.text(f"""
WITH RECURSIVE awaited AS (
    (SELECT org_id, livemode, analysis_key AS key FROM operations
     WHERE status = 'queued' AND waits_since IS NOT NULL ORDER BY org_id, livemode, analysis_key LIMIT 1)
    UNION ALL
    SELECT next.* FROM awaited CROSS JOIN LATERAL (
        SELECT o.org_id, o.livemode, o.analysis_key FROM operations o
        WHERE o.status = 'queued' AND o.waits_since IS NOT NULL
          AND (o.org_id, o.livemode, o.analysis_key) > (awaited.org_id, awaited.livemode, awaited.key)
        ORDER BY o.org_id, o.livemode, o.analysis_key LIMIT 1
    ) AS next
), settled AS (
    SELECT awaited.* FROM awaited
    LEFT JOIN analyses a ON a.org_id = awaited.org_id AND a.livemode = awaited.livemode AND a.key = awaited.key
    LEFT JOIN operations maker ON maker.id = a.operation_id AND maker.status IN ({_OPEN_STATES})
    WHERE a.result IS NOT NULL OR maker.id IS NULL
)
SELECT waiting.id, waiting.job_id FROM settled CROSS JOIN LATERAL (
    SELECT o.id, o.job_id FROM operations o
    WHERE o.status = 'queued' AND o.waits_since IS NOT NULL
      AND o.org_id = settled.org_id AND o.livemode = settled.livemode AND o.analysis_key = settled.key
    ORDER BY o.waits_since, o.id LIMIT :most
) AS waiting
LIMIT :most
""")


def ready(session: Session, *, most: int) -> list[sa.Row[str, str]]:
    """Return ``(operation, job)`` ids of operations that need wait no longer, ``most`` at most. Locks nothing."""
    return list(session.execute(READY, {"most": most}))


def waiting_of(session: Session, job_ids: Collection[str], *, most: int) -> list[sa.Row[str, str]]:
    """Return ``(operation, job)`` ids of what waits for analyses in these jobs, ``most`` at most. Locks nothing."""
    statement = sa.select(Operation.id, Operation.job_id).where(one_of(Operation.job_id, sorted(job_ids)), _WAITS)
    return list(session.execute(statement.order_by(Operation.id).limit(most)))


_HURRY = sa.text("""
UPDATE operations AS o SET lane = urgent.lane FROM (
    SELECT maker.id, waiting.lane FROM operations waiting
    JOIN analyses a
      ON a.org_id = waiting.org_id AND a.livemode = waiting.livemode AND a.key = waiting.analysis_key
    JOIN operations maker ON maker.id = a.operation_id
    WHERE waiting.job_id = ANY (:job_ids) AND waiting.status = 'queued' AND waiting.waits_since IS NOT NULL
      AND maker.status = 'queued' AND waiting.lane < maker.lane
    FOR UPDATE OF maker SKIP LOCKED
) AS urgent
WHERE o.id = urgent.id
""")


def hurry(session: Session, job_ids: Collection[str]) -> int:
    """Let what these jobs wait for go before other work of a large job, if they do; return how many that were.

    It locks operations without their jobs, so nothing else may be locked in its transaction.
    """
    changed: Any = session.execute(_HURRY, {"job_ids": sorted(job_ids)})
    return int(changed.rowcount)


def locked_waiting(session: Session, operation_ids: Collection[str]) -> list[Operation]:
    """Lock and return those of the operations that still wait, first who waits longest; their jobs are locked."""
    statement = sa.select(Operation).where(one_of(Operation.id, sorted(operation_ids)), _WAITS)
    rows = list(session.scalars(statement.order_by(Operation.id).with_for_update()))
    return sorted(rows, key=lambda row: (row.waits_since, row.id))


def expect(session: Session, waiting: Sequence[Operation]) -> set[str]:
    """Write down of keys nothing is known of that the first who waits finds it out; return these operations' ids."""
    first: dict[Key, tuple[str, str, str]] = {}
    for one in waiting:
        first.setdefault(_key(one), (one.id, one.name, one.provider))
    return _write_expected(session, first)


def _write_expected(session: Session, by_key: Mapping[Key, tuple[str, str, str]]) -> set[str]:
    """Write rows of keys that have none, in their order; return the ids of the operations that these name."""
    rows = [
        {
            "org_id": org_id,
            "livemode": livemode,
            "key": key,
            "operation_id": operation_id,
            "name": name,
            "provider": provider,
        }
        for (org_id, livemode, key), (operation_id, name, provider) in sorted(by_key.items())
    ]
    statement = insert(Analysis).values(rows).on_conflict_do_nothing().returning(Analysis.operation_id)
    return set(session.scalars(statement))


def known_by(session: Session, keys: Collection[Key], *, kept: timedelta) -> dict[Key, Found]:
    """Return what is known, by key, if it is younger than ``kept``. Locks nothing."""
    rows = session.scalars(sa.select(Analysis).where(_one_of_keys(keys), _younger(kept)))
    return {(row.org_id, row.livemode, row.key): found for row in rows if (found := _known(row))}


def locked_makers(session: Session, keys: Collection[Key], *, kept: timedelta) -> dict[Key, Maker]:
    """Lock the rows of ``keys`` and return how far those are that find them out."""
    rows = sa.select(Analysis).where(_one_of_keys(keys)).order_by(*_IN_ORDER)
    locked = session.scalars(rows.with_for_update(), execution_options={"populate_existing": True}).all()
    # A statement of its own: one that waited for a lock would not see what has become of them meanwhile.
    about = sa.select(
        Operation.id,
        Operation.status,
        Operation.provider,
        Operation.model_used,
        Operation.output,
        Operation.completed_at,
    ).where(one_of(Operation.id, sorted({row.operation_id for row in locked})))
    found = {row.id: row for row in session.execute(about)}
    oldest = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one() - kept
    return {(row.org_id, row.livemode, row.key): _maker(row, found, oldest=oldest) for row in locked}


def hand_over(session: Session, operation: Operation) -> None:
    """Write down that ``operation`` finds out its key now; the row is locked."""
    session.execute(
        sa.update(Analysis)
        .where(
            Analysis.org_id == operation.org_id,
            Analysis.livemode == operation.livemode,
            Analysis.key == operation.analysis_key,
        )
        .values(
            operation_id=operation.id,
            provider=operation.provider,
            model_used=None,
            result=None,
            made_at=None,
            created_at=sa.func.clock_timestamp(),
        ),
        execution_options={"synchronize_session": False},
    )


def _maker(row: Analysis, operations: Mapping[str, Any], *, oldest: datetime) -> Maker:
    made_by = operations.get(row.operation_id)
    known = _known(row)
    return Maker(
        operation_id=row.operation_id,
        is_open=made_by is not None and made_by.status in _OPEN,
        found=_come_to(made_by) if made_by is not None and made_by.status == "succeeded" else None,
        known=known if known and known.made_at > oldest else None,
    )


def _come_to(row: Any) -> Found | None:
    """Return what an operation has answered, kept or not."""
    result = (row.output or {}).get("result")
    if result is None:
        return None
    return Found(
        operation_id=row.id, provider=row.provider, model=row.model_used, result=result, made_at=row.completed_at
    )


def _known(row: Analysis) -> Found | None:
    if row.result is None or row.made_at is None:
        return None
    return Found(
        operation_id=row.operation_id,
        provider=row.provider,
        model=row.model_used,
        result=row.result,
        made_at=row.made_at,
    )


def _key(operation: Operation) -> Key:
    return operation.org_id, operation.livemode, operation.analysis_key or ""


def _younger(kept: timedelta) -> sa.ColumnElement[bool]:
    return Analysis.made_at > sa.func.clock_timestamp() - kept


def _one_of_keys(keys: Collection[Key]) -> sa.ColumnElement[bool]:
    return sa.tuple_(Analysis.org_id, Analysis.livemode, Analysis.key).in_(sorted(keys))
