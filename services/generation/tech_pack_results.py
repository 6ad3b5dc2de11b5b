"""Keeping what jobs of technical packs have come to, in the transaction that adopts it.

The job is locked already. Analyses are locked after it, in the order of their ids.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.generation import tech_pack_edits
from services.generation.models import Generation, Job, Operation, TechPackAnalysis, TechPackPart
from services.generation.planning import digests_of
from services.generation.tech_pack_steps import CATEGORY, CLOSE_UP, SKETCH, confidence

_OF_SHOT: Final = (
    "order",
    "title",
    "view",
    "instruction",
    "reason",
    "seen_from",
    "number",
    "count",
    "analysis",
    "confidence",
)
_OF_SKETCH: Final = ("seen_from", "callouts", "measurements", "confidence")


def keep(session: Session, job: Job, generation: Generation, operations: Sequence[Operation]) -> str | None:
    """Keep the result of a generation that is about to succeed, if it is of a technical pack.

    Args:
        session: of the system role; the job's row is locked.
        job: what it belongs to.
        generation: it; its result and images are there.
        operations: what was done for it, in order.

    Returns:
        Why it cannot be kept, for the client: then it has failed. None where all is well.
    """
    kept = _KEEPERS.get(job.workflow)
    return kept(session, job, generation, operations) if kept else None


def _keep_category(session: Session, job: Job, generation: Generation, _operations: Sequence[Operation]) -> None:
    _add(session, job, generation, kind=CATEGORY, place=CATEGORY, data=dict(generation.result or {}))


def _keep_views(session: Session, job: Job, generation: Generation, operations: Sequence[Operation]) -> None:
    found = zip(generation.settings["views"], (generation.result or {})["analyses"], operations, strict=True)
    several = {view["subject"]: (view, told["analysis"], operation) for view, told, operation in found}
    _keep_analyses(session, job, generation, several)


def _keep_regenerated(session: Session, job: Job, generation: Generation, operations: Sequence[Operation]) -> None:
    settings, result = generation.settings, generation.result or {}
    if settings["part"] == "view":
        _keep_analyses(session, job, generation, {generation.id: (settings, result["analysis"], operations[-1])})
        return
    first = session.scalars(sa.select(TechPackPart).where(TechPackPart.generation_id == settings["set_id"])).first()
    names = _OF_SHOT if settings["part"] == CLOSE_UP else _OF_SKETCH
    _add(
        session,
        job,
        generation,
        kind=settings["part"],
        place=settings["place"],
        of=first,
        source=operations[0].inputs["sources"][0],
        revision_id=settings["revision_id"],
        image_id=result["image_id"],
        data={name: result[name] for name in names},
    )


def _keep_close_ups(session: Session, job: Job, generation: Generation, operations: Sequence[Operation]) -> None:
    for shot in (generation.result or {})["shots"]:
        _add(
            session,
            job,
            generation,
            kind=CLOSE_UP,
            place=str(shot["order"]),
            source=operations[0].inputs["sources"][shot["photo"] - 1],
            revision_id=shot["revision_id"],
            image_id=shot["image_id"],
            data={name: shot[name] for name in _OF_SHOT},
        )


def _keep_sketches(session: Session, job: Job, generation: Generation, operations: Sequence[Operation]) -> None:
    for sketch, measured in zip((generation.result or {})["sketches"], operations, strict=False):
        _add(
            session,
            job,
            generation,
            kind=SKETCH,
            place=sketch["view_type"],
            source=measured.inputs["sources"][0],
            revision_id=sketch["revision_id"],
            image_id=sketch["image_id"],
            data={name: sketch[name] for name in _OF_SKETCH},
        )


def _keep_analyses(
    session: Session,
    job: Job,
    generation: Generation,
    several: Mapping[str, tuple[Mapping[str, Any], dict[str, Any], Operation]],
) -> None:
    """Keep analyses by their ids; one that was asked for later, or says the same as before its edits, stays.

    So do edits that were asked for after the analysis, as far as there still are their fields.
    """
    rows = [
        _analysis_row(job, generation, subject=subject, view=view, found=found, operation=operation)
        for subject, (view, found, operation) in sorted(several.items())
    ]
    added = insert(TechPackAnalysis).values(rows).on_conflict_do_nothing().returning(TechPackAnalysis.id)
    new = set(session.scalars(added))
    there = _locked(session, several.keys() - new)
    for values in rows:
        row = there.get(values["id"])
        if row is None or row.asked_at > values["asked_at"]:
            continue
        row.asked_at = values["asked_at"]
        if row.found == values["found"]:
            continue
        for name in ("found", "generation_id", "provenance"):
            setattr(row, name, values[name])
        row.analysis = tech_pack_edits.again(session, row, values["found"])
        row.confidence = confidence(row.analysis)
        row.version += 1
        row.updated_at = sa.func.now()
    session.flush()


def _analysis_row(
    job: Job,
    generation: Generation,
    *,
    subject: str,
    view: Mapping[str, Any],
    found: dict[str, Any],
    operation: Operation,
) -> dict[str, Any]:
    return {
        "id": subject,
        "org_id": job.org_id,
        "livemode": job.livemode,
        "product_id": generation.product_id,
        "view_type": view["view_type"],
        "found": found,
        "analysis": found,
        "confidence": confidence(found),
        "generation_id": generation.id,
        "provenance": {
            "provider": operation.provider,
            "model": operation.model_used or operation.model_requested,
            "prompt_version": operation.prompt_version,
        },
        "asked_at": job.created_at,
    }


def _add(  # noqa: PLR0913  each is a column
    session: Session,
    job: Job,
    generation: Generation,
    *,
    kind: str,
    place: str,
    data: dict[str, Any],
    of: TechPackPart | None = None,
    source: str | None = None,
    revision_id: str | None = None,
    image_id: str | None = None,
) -> None:
    """Add a part to the set that ``of`` is of, or to a new one."""
    session.add(
        TechPackPart(
            generation_id=generation.id,
            place=place,
            org_id=job.org_id,
            livemode=job.livemode,
            product_id=generation.product_id,
            kind=kind,
            set_id=of.set_id if of else generation.id,
            set_asked_at=of.set_asked_at if of else job.created_at,
            asked_at=job.created_at,
            image_id=image_id,
            revision_id=revision_id,
            key=source,
            sha256=digests_of(job.assets).get(source or ""),
            data=data,
        )
    )


def _locked(session: Session, ids: Iterable[str]) -> dict[str, TechPackAnalysis]:
    wanted = sa.select(TechPackAnalysis).where(TechPackAnalysis.id.in_(list(ids)))
    found = session.scalars(wanted.order_by(TechPackAnalysis.id).with_for_update())
    return {row.id: row for row in found}


_KEEPERS: Final[Mapping[str, Callable[[Session, Job, Generation, Sequence[Operation]], str | None]]] = {
    "tech_pack_category": _keep_category,
    "tech_pack_base_views": _keep_views,
    "tech_pack_close_ups": _keep_close_ups,
    "tech_pack_sketches": _keep_sketches,
    "tech_pack_edit": tech_pack_edits.keep,
    "tech_pack_regenerate": _keep_regenerated,
}
