"""Reads of technical packs: all that was made for one product, what may be done next, and the history of edits.

Each names the organization and the mode whose rows it may show; keys stand in place of addresses.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from services.generation import queries, tech_pack_steps
from services.generation.jobs import JOB_ENDS
from services.generation.models import Generation, Image, Job, TechPackAnalysis, TechPackEdit, TechPackPart
from services.generation.tech_pack_inputs import detected_category, subject_of
from services.generation.tech_pack_steps import CLOSE_UP, SKETCH
from shared.times import rfc3339

EDITS_SHOWN = 50
JOBS_SHOWN = 50
# Of a close-up only for making it again.
_NOT_SHOWN = ("number", "count")
_SIDES = ("front", "back", "side")
_WORKFLOWS = "tech\\_pack\\_%"
_ACTIONS = {
    tech_pack_steps.ADD_VIEW: ("/v1/products/{product}/views", {"view_type": "front", "upload_id": None}),
    tech_pack_steps.DETECT_CATEGORY: ("/v1/tech-packs/{product}/category", {}),
    tech_pack_steps.ANALYZE: ("/v1/tech-packs/{product}/base-views", {}),
    tech_pack_steps.CLOSE_UPS: ("/v1/tech-packs/{product}/close-ups", {}),
    tech_pack_steps.SKETCHES: ("/v1/tech-packs/{product}/sketches", {}),
    tech_pack_steps.EDIT: ("/v1/revisions/{revision}/edits", {"field_path": "summary", "prompt": None}),
    tech_pack_steps.REGENERATE: ("/v1/revisions/{revision}/regenerations", {}),
}
# First what was asked for last: of sets, and of parts.
_LAST = (
    TechPackPart.set_asked_at.desc(),
    TechPackPart.set_id.desc(),
    TechPackPart.asked_at.desc(),
    TechPackPart.generation_id.desc(),
)


def pack(
    session: Session, *, org_id: str, livemode: bool, product_id: str, views: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what there is of a product's technical pack.

    Args:
        session: where it is read.
        org_id: whose.
        livemode: in which mode.
        product_id: whose pack.
        views: the product's current views, as the catalog has them.

    Returns:
        ``{status, category, base_views, close_ups, sketches, edits, at_work, charged, next_actions}``; ``base_views``
        are the views, each with its ``analysis`` or None.
    """
    mine = {"org_id": org_id, "livemode": livemode, "product_id": product_id}
    analyses = _analyses(session, views, mine)
    shown_views = [{"revision": dict(view), **_analysis_of(analyses.get(subject_of(view)))} for view in views]
    close_ups = _parts(session, CLOSE_UP, mine)
    sketches = _parts(session, SKETCH, mine)
    analyzed = [view["revision"]["id"] for view in shown_views if view["analysis"]]
    status = tech_pack_steps.status_of(
        views=len(views), analyzed=len(analyzed), close_ups=len(close_ups), sketches=len(sketches)
    )
    return {
        "product_id": product_id,
        "status": status,
        "category": detected_category(session, org_id=org_id, livemode=livemode, product_id=product_id),
        "base_views": shown_views,
        "close_ups": sorted((_close_up(*each) for each in close_ups), key=lambda one: one["order"]),
        "sketches": sorted((_sketch(*each) for each in sketches), key=lambda one: _SIDES.index(one["view_type"])),
        "edits": _edits(session, analyses),
        "at_work": _at_work(session, mine),
        "charged": _charged(session, mine),
        "next_actions": [_action(step, product_id, analyzed) for step in tech_pack_steps.allowed(status)],
    }


def _mine(table: Any, mine: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(getattr(table, name) == value for name, value in mine.items()))


def _analyses(
    session: Session, views: Iterable[Mapping[str, Any]], mine: Mapping[str, Any]
) -> dict[str, TechPackAnalysis]:
    wanted = [subject_of(view) for view in views]
    rows = session.scalars(
        sa.select(TechPackAnalysis).where(_mine(TechPackAnalysis, mine), TechPackAnalysis.id.in_(wanted))
    )
    return {row.id: row for row in rows}


def _analysis_of(row: TechPackAnalysis | None) -> dict[str, Any]:
    if row is None:
        return {"analysis": None, "confidence": None, "version": 0, "generation_id": None, "provenance": None}
    return {
        "analysis": row.analysis,
        "confidence": row.confidence,
        "version": row.version,
        "generation_id": row.generation_id,
        "provenance": row.provenance,
    }


def _parts(session: Session, kind: str, mine: Mapping[str, Any]) -> list[tuple[TechPackPart, Image]]:
    """Return the parts that count: of the set that was asked for last, at each place that which was asked for last."""
    of_kind = sa.and_(_mine(TechPackPart, mine), TechPackPart.kind == kind)
    last_set = sa.select(TechPackPart.set_id).where(of_kind).order_by(*_LAST).limit(1).scalar_subquery()
    statement = (
        sa.select(TechPackPart, Image)
        .join(Image, Image.id == TechPackPart.image_id)
        .where(of_kind, TechPackPart.set_id == last_set, Image.deleted_at.is_(None))
        .ext(distinct_on(TechPackPart.place))
        .order_by(TechPackPart.place, *_LAST)
    )
    return [(part, image) for part, image in session.execute(statement)]


def _close_up(part: TechPackPart, image: Image) -> dict[str, Any]:
    named = {name: value for name, value in part.data.items() if name not in _NOT_SHOWN}
    return {**named, "image": queries.image_as_dict(image), "revision_id": part.revision_id, "set_id": part.set_id}


def _sketch(part: TechPackPart, image: Image) -> dict[str, Any]:
    return {
        "view_type": part.place,
        **part.data,
        "image": queries.image_as_dict(image),
        "revision_id": part.revision_id,
        "set_id": part.set_id,
    }


def _edits(session: Session, analyses: Mapping[str, TechPackAnalysis]) -> list[dict[str, Any]]:
    """Return the newest edits of current views, the last first."""
    statement = sa.select(TechPackEdit).where(TechPackEdit.analysis_id.in_(list(analyses)))
    newest = (TechPackEdit.created_at.desc(), TechPackEdit.version.desc(), TechPackEdit.generation_id.desc())
    rows = session.scalars(statement.order_by(*newest).limit(EDITS_SHOWN))
    return [
        {
            "view_type": analyses[row.analysis_id].view_type,
            "field_path": row.field_path,
            "prompt": row.prompt,
            "before": row.before["value"],
            "after": row.after["value"],
            "version": row.version,
            "generation_id": row.generation_id,
            "user_id": row.user_id,
            "created_at": rfc3339(row.created_at, precision="microseconds"),
        }
        for row in rows
    ]


def _of_pack(mine: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(_mine(Generation, mine), Job.workflow.like(_WORKFLOWS))


def _at_work(session: Session, mine: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs that have not ended, those first that were asked for first."""
    statement = (
        sa.select(Job.id, Job.workflow, Job.status)
        .join(Generation, Generation.job_id == Job.id)
        .where(_of_pack(mine), Job.status.not_in(JOB_ENDS))
        .order_by(Job.id)
        .distinct()
        .limit(JOBS_SHOWN)
    )
    return [{"job_id": row.id, "workflow": row.workflow, "status": row.status} for row in session.execute(statement)]


def _charged(session: Session, mine: Mapping[str, Any]) -> int:
    """Return what all of the pack has cost."""
    total = sa.select(sa.func.coalesce(sa.func.sum(Generation.charged), 0)).join(Job, Job.id == Generation.job_id)
    return int(session.scalar(total.where(_of_pack(mine))) or 0)


def _action(step: str, product_id: str, analyzed: Sequence[str]) -> dict[str, Any]:
    path, body = _ACTIONS[step]
    revision = analyzed[0] if analyzed else ""
    return {
        "action": step,
        "method": "POST",
        "path": path.format(product=product_id, revision=revision),
        "body": dict(body),
    }
