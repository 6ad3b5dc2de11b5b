"""The end of a deleted product's retention: its views go for good, and with them the pictures nothing else shows."""

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.catalog.models import Asset, Product, ProductView
from services.catalog.products import KEPT_AFTER_DELETION
from shared.database import Database

log = structlog.get_logger(__name__)

_PURPOSE = "product"


def purge_deleted(db: Database, *, limit: int = 50) -> int:
    """Forget products that were deleted long enough ago, with their views; return how many.

    Their uploads that were sent as pictures of products, and that no other view shows, are handed to the deletion of
    assets, which removes the bytes and tells of it. Every replica may run this at once.
    """
    with db.transaction() as session:
        over = sa.and_(Product.deleted_at.is_not(None), Product.deleted_at <= sa.func.now() - KEPT_AFTER_DELETION)
        due = sa.select(Product.id).where(over).order_by(Product.id).limit(limit).with_for_update(skip_locked=True)
        product_ids = list(session.scalars(due))
        if not product_ids:
            return 0
        of_these = ProductView.product_id.in_(product_ids)
        shown = sa.select(ProductView.asset_id).where(of_these, ProductView.asset_id.is_not(None))
        asset_ids = sorted({asset_id for asset_id in session.scalars(shown) if asset_id})
        session.execute(sa.delete(ProductView).where(of_these))
        session.execute(sa.delete(Product).where(Product.id.in_(product_ids)))
        released = _release(session, asset_ids)
        log.info("products_purged", products=len(product_ids), assets=released)
    return len(product_ids)


def _release(session: Session, asset_ids: list[str]) -> int:
    """Begin the deletion of those assets that no view shows any more; return of how many.

    They are locked before the views are looked at: a view that is being made of one has it locked until it is there.
    """
    ours = sa.and_(Asset.id.in_(asset_ids), Asset.purpose == _PURPOSE, Asset.deletion_reason.is_(None))
    locked = set(session.scalars(sa.select(Asset.id).where(ours).order_by(Asset.id).with_for_update()))
    shown = sa.select(ProductView.asset_id).where(ProductView.asset_id.in_(locked))
    free = locked - {asset_id for asset_id in session.scalars(shown) if asset_id}
    ended = {"deletion_reason": "retention", "claimed_until": sa.func.now()}
    session.execute(sa.update(Asset).where(Asset.id.in_(free)).values(ended))
    return len(free)
