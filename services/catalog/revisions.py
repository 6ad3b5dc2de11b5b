"""Revisions of a product's views: adding one, under the product's lock, so that each view has exactly one current one.

Whoever adds a revision has locked the product's row first; the upload it is made of is locked after it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.catalog import products, queries
from services.catalog.models import Asset, Product, ProductView
from services.catalog.products import Picture
from shared.events import GenerationCompleted, ProductViewAdded, caused_by, with_meta
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, NotFound

log = structlog.get_logger(__name__)

# What a revision takes over of its upload.
_COPIED = ("key", "thumbnail_key", "content_type", "sha256", "bytes", "width", "height")


def locked(session: Session, product_ids: Iterable[str]) -> dict[str, Product]:
    """Lock products that are not deleted, in ascending order of id, which is the one order everywhere."""
    there = sa.and_(Product.id.in_(set(product_ids)), Product.deleted_at.is_(None))
    statement = sa.select(Product).where(there).order_by(Product.id).with_for_update()
    return {row.id: row for row in session.scalars(statement)}


def add_uploaded(
    session: Session, product: Product, picture: Picture, *, user_id: str | None
) -> tuple[ProductView, list[ProductViewAdded]]:
    """Make a revision of an upload; done twice under one id, the second changes and tells nothing.

    Raises:
        NotFound: there is no such upload in the organization and mode.
        BadRequest: the upload is to be deleted by itself, and the view would lose its picture.
        Conflict: the id stands for another revision.
    """
    known = session.get(ProductView, picture.revision_id)
    if known is not None:
        return _same(known, product, picture), []
    asset = _kept_asset(session, product, picture.upload_id)
    asset.thumbnail_key = asset.thumbnail_key or picture.thumbnail_key
    row = _added(
        session,
        product,
        id=picture.revision_id,
        user_id=user_id,
        view_type=picture.view_type,
        asked_at=session.execute(sa.select(sa.func.now())).scalar_one(),
        asset_id=asset.id,
        **{name: getattr(asset, name) for name in _COPIED},
    )
    return row, [_told(row)]


def add_generated(session: Session, completed: Sequence[GenerationCompleted]) -> list[ProductViewAdded]:
    """Make revisions of the views that generations made anew; return the events that tell of them.

    What comes for a product that was deleted, or for a generation whose revision is there, changes nothing.
    """
    rows = locked(session, (event.product_id for event in completed if event.product_id))
    told = []
    for event in completed:
        product = rows.get(event.product_id or "")
        row = _of_generation(session, product, event) if product else None
        if row is None:
            log.info("view_not_taken", product_id=event.product_id, generation_id=event.generation_id)
        else:
            told.append(with_meta(_told(row), caused_by(event)))
    return told


def _of_generation(session: Session, product: Product, event: GenerationCompleted) -> ProductView | None:
    """Return the new revision, or None where the event makes none."""
    renewed = event.renewed_view
    image = next((one for one in event.images if renewed and one.image_id == renewed.image_id), None)
    if renewed is None or image is None or (product.org_id, product.livemode) != (event.org_id, event.livemode):
        return None
    if session.scalar(sa.select(ProductView.id).where(ProductView.generation_id == event.generation_id)):
        return None
    return _added(
        session,
        product,
        id=new_id("rev"),
        user_id=event.user_id,
        view_type=renewed.view_type,
        asked_at=datetime.fromisoformat(renewed.asked_at),
        image_id=image.image_id,
        generation_id=event.generation_id,
        parent_id=event.revision_id,
        key=renewed.key,
        thumbnail_key=renewed.thumbnail_key,
        content_type=renewed.content_type,
        **{name: getattr(image, name) for name in ("sha256", "bytes", "width", "height")},
    )


def _added(session: Session, product: Product, **fields: Any) -> ProductView:
    """Add a revision with the next version of its view; of all it is the current one if it was asked for last."""
    row = ProductView(org_id=product.org_id, livemode=product.livemode, product_id=product.id, **fields)
    of_view = sa.and_(ProductView.product_id == product.id, ProductView.view_type == row.view_type)
    current = session.scalar(sa.select(ProductView).where(of_view, ProductView.is_current))
    last = session.scalar(sa.select(sa.func.max(ProductView.version)).where(of_view)) or 0
    row.version = last + 1
    row.is_current = products.replaces(
        asked_at=row.asked_at,
        of=row.generation_id or row.id,
        current=(current.asked_at, current.generation_id or current.id) if current else None,
    )
    if current is not None and row.is_current:
        current.is_current = False
        session.flush()  # before the new one is: at no time may there be two
    session.add(row)
    session.flush()
    log.info("view_added", revision_id=row.id, product_id=product.id, org_id=row.org_id, is_current=row.is_current)
    return row


def _kept_asset(session: Session, product: Product, upload_id: str) -> Asset:
    """Return the upload, locked: from now on it is not deleted before the view that is to show it."""
    mine = sa.and_(Asset.org_id == product.org_id, Asset.livemode == product.livemode, Asset.id == upload_id)
    asset = session.scalar(sa.select(Asset).where(mine, queries.PRESENT).with_for_update())
    if asset is None:
        raise NotFound("There is no such upload; it may have been deleted.")
    if asset.delete_after is not None:
        detail = "this upload is deleted by itself; send the picture again with purpose=product"
        raise BadRequest(
            f"/upload_id: {detail}", errors=[{"pointer": "/upload_id", "code": "invalid", "detail": detail}]
        )
    return asset


def _same(known: ProductView, product: Product, picture: Picture) -> ProductView:
    """Return the revision an earlier call made; the caller never got that answer."""
    was = (known.org_id, known.livemode, known.product_id, known.view_type, known.asset_id)
    if was != (product.org_id, product.livemode, product.id, picture.view_type, picture.upload_id):
        raise Conflict(f"The id {picture.revision_id} is taken by another revision; use a new one.")
    return known


def _told(row: ProductView) -> ProductViewAdded:
    names = ("user_id", "view_type", "version", "is_current", "asset_id", "image_id", "generation_id", "parent_id")
    about = {name: getattr(row, name) for name in (*names, "sha256", "bytes", "width", "height", "livemode")}
    return ProductViewAdded(revision_id=row.id, product_id=row.product_id, org_id=row.org_id, **about)
