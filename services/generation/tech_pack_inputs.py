"""What jobs of technical packs work on beside what the catalog knows: analyses and parts that were made before.

They are added to the snapshots of a submission, so that `plan` stays pure and a retry works on what its job worked on.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.generation.models import TechPackAnalysis, TechPackPart
from services.generation.tech_pack_facts import kind_told, stated_size
from services.generation.tech_pack_steps import CATEGORY, in_order
from shared.database import Database
from shared.problems import NotFound

_WORKFLOWS = "tech_pack_"


def resolved(
    db: Database,
    *,
    workflow: str,
    org_id: str,
    livemode: bool,
    inputs: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Mapping[str, Any]]:
    """Return a submission's assets with what is known of its products' views, and of the part that it names.

    Each view, those of products too, stands there by its id, with its ``subject`` and its ``analysis`` or None; a
    product has the ``size`` that its metadata states, and as its ``category``, where it has none of its own, what was
    detected last; the image of a part is there by its id, as that part.

    Raises:
        NotFound: the image is no close-up or sketch of the product.
    """
    if not workflow.startswith(_WORKFLOWS):
        return assets
    # A copy of their kind: those of a retry know what to say of what is none of its job's.
    known: dict[str, Any] = copy(assets)  # type: ignore[arg-type]  # every caller has a dict
    known.update({one_id: dict(one) for one_id, one in assets.items()})
    products = [one for one in known.values() if "views" in one]
    for view in [view for product in products for view in product["views"].values()]:
        known.setdefault(view["id"], dict(view))
    views = [one for one in known.values() if "view_type" in one and "subject" not in one]
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        analyses = _analyses(session, [subject_of(view) for view in views])
        for view in views:
            view["subject"] = subject_of(view)
            view["analysis"] = analyses.get(view["subject"])
        for product in products:
            product["category"] = product["category"] or kind_told(
                detected_category(session, org_id=org_id, livemode=livemode, product_id=product["id"])
            )
        image_id = inputs.get("image_id")
        if isinstance(image_id, str) and "kind" not in known.get(image_id, ()):
            known[image_id] = _part(session, image_id, product_id=inputs.get("product_id"))
    for product in products:
        product["size"] = stated_size(product.get("metadata") or {})
        product["views"] = {view["view_type"]: known[view["id"]] for view in in_order(product["views"].values())}
    return known


def subject_of(view: Mapping[str, Any]) -> str:
    """Return the id an analysis of a view goes by: its generation's where a job made it, else the revision's.

    Generation never hears by which id the catalog takes up a view that was made anew.
    """
    return str(view.get("generation_id") or view["id"])


def detected_category(session: Session, *, org_id: str, livemode: bool, product_id: str) -> dict[str, Any] | None:
    """Return ``{category, subcategory, confidence}`` of a product as it was detected last; None where it never was."""
    mine = (TechPackPart.org_id == org_id, TechPackPart.livemode == livemode, TechPackPart.product_id == product_id)
    statement = sa.select(TechPackPart.data).where(*mine, TechPackPart.kind == CATEGORY)
    last = (TechPackPart.asked_at.desc(), TechPackPart.generation_id.desc())
    return session.scalars(statement.order_by(*last).limit(1)).first()


def _analyses(session: Session, subjects: list[str]) -> dict[str, dict[str, Any]]:
    found = session.scalars(sa.select(TechPackAnalysis).where(TechPackAnalysis.id.in_(subjects)))
    return {row.id: row.analysis for row in found}


def _part(session: Session, image_id: str, *, product_id: Any) -> dict[str, Any]:
    row = session.scalar(
        sa.select(TechPackPart).where(TechPackPart.image_id == image_id, TechPackPart.product_id == product_id)
    )
    if row is None:
        raise NotFound("There is no such close-up or sketch of this product.")
    names = ("product_id", "kind", "place", "set_id", "image_id", "revision_id", "key", "sha256", "data")
    return {"id": image_id, **{name: getattr(row, name) for name in names}}
