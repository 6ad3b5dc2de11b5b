"""Edits of analyses: each changes its one field as its answer comes, and what comes of all is as they were asked for.

The job is locked already; the analysis is locked here, after it.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation import tech_pack_fields
from services.generation.models import Generation, Job, Operation, TechPackAnalysis, TechPackEdit
from services.generation.tech_pack_steps import confidence


def keep(session: Session, job: Job, generation: Generation, _operations: Sequence[Operation]) -> str | None:
    """Change the one field as it is now, whatever others have changed beside it since the edit was asked for.

    Where it was edited itself by a request that came later, it stays as that has left it.

    Returns:
        Why it cannot be changed, for the client; None where it was.
    """
    settings, result = generation.settings, generation.result or {}
    row = session.get_one(TechPackAnalysis, settings["subject"], with_for_update=True)
    path = settings["field_path"]
    if any(
        tech_pack_fields.overlap(row.analysis, path, edit.field_path) for edit in _since(session, row, job.created_at)
    ):
        return "The field was edited by a later request before this one was done."
    try:
        before = tech_pack_fields.value_at(row.analysis, path)
        row.analysis = tech_pack_fields.with_value(row.analysis, path, result["value"])
    except tech_pack_fields.NoSuchField as gone:
        return f"The field is not there any more: {gone}."
    row.version += 1
    row.updated_at = sa.func.now()
    row.confidence = confidence(row.analysis)
    session.add(
        TechPackEdit(
            generation_id=generation.id,
            analysis_id=row.id,
            org_id=row.org_id,
            livemode=row.livemode,
            user_id=job.user_id,
            field_path=path,
            prompt=settings["prompt"],
            before={"value": before},
            after={"value": result["value"]},
            version=row.version,
        )
    )
    generation.result = {**result, "before": before, "version": row.version}
    return None


def again(session: Session, row: TechPackAnalysis, found: dict[str, Any]) -> dict[str, Any]:
    """Return what was ``found`` anew with the edits that were asked for after it, as far as there are their fields."""
    for edit in _since(session, row, row.asked_at):
        with suppress(tech_pack_fields.NoSuchField):
            found = tech_pack_fields.with_value(found, edit.field_path, edit.after["value"])
    return found


def _since(session: Session, row: TechPackAnalysis, asked_at: datetime) -> list[TechPackEdit]:
    """Return the edits of an analysis that were asked for after that time, in the order in which they were."""
    statement = (
        sa.select(TechPackEdit)
        .join(Generation, Generation.id == TechPackEdit.generation_id)
        .join(Job, Job.id == Generation.job_id)
        .where(TechPackEdit.analysis_id == row.id, Job.created_at > asked_at)
        .order_by(Job.created_at, TechPackEdit.version)
    )
    return list(session.scalars(statement))
