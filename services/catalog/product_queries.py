"""Reads of products and their views, from a session to plain values; each names the organization and the mode."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.catalog.models import Product, ProductView
from services.catalog.products import VIEW_TYPES
from shared.problems import BadRequest, NotFound
from shared.times import rfc3339

_PICTURE = ("key", "content_type", "sha256", "bytes", "width", "height")
_PAGE_DIGITS = 9


def mine(*, org_id: str, livemode: bool) -> sa.ColumnElement[bool]:
    """Return the condition for an organization's products of a mode that are not deleted."""
    return sa.and_(Product.org_id == org_id, Product.livemode == livemode, Product.deleted_at.is_(None))


def product(session: Session, *, org_id: str, livemode: bool, product_id: str) -> dict[str, Any]:
    """Return one product (see `as_dict`).

    Raises:
        NotFound: there is none here, or it was deleted.
    """
    found = session.scalar(sa.select(Product).where(mine(org_id=org_id, livemode=livemode), Product.id == product_id))
    if found is None:
        raise NotFound("There is no such product; it may have been deleted.")
    return shown(session, found)


def products(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    limit: int,
    after: str | None = None,
    category: str | None = None,
    room_type: str | None = None,
    sku: str | None = None,
) -> dict[str, Any]:
    """Return a page of products, the newest first: ``{data, has_more, next_cursor, total, page}``.

    Args:
        session: where they are read.
        org_id: whose.
        livemode: those of which mode.
        limit: how many at most.
        after: ``next_cursor`` of the page before, which is its last id and the number of the page after it.
        category: only those of exactly this category.
        room_type: only those for this type of room.
        sku: only the one with this SKU.

    Raises:
        BadRequest: ``after`` is no such thing.
    """
    filters = [
        mine(org_id=org_id, livemode=livemode),
        *([Product.category == category] if category is not None else []),
        *([Product.room_types.contains([room_type])] if room_type is not None else []),
        *([Product.sku == sku] if sku is not None else []),
    ]
    last, number = _place(after)
    beyond = [Product.id < last] if last else []
    statement = sa.select(Product).where(*filters, *beyond).order_by(Product.id.desc()).limit(limit + 1)
    rows = list(session.scalars(statement))
    page, more = rows[:limit], len(rows) > limit
    views = _current_views(session, page)
    return {
        "data": [as_dict(row, views.get(row.id, ())) for row in page],
        "has_more": more,
        "next_cursor": f"{page[-1].id}/{number + 1}" if more else None,
        "total": session.scalar(sa.select(sa.func.count()).select_from(Product).where(*filters)),
        "page": number,
    }


def product_count(session: Session, *, org_id: str, livemode: bool) -> int:
    """Return how many products there are."""
    counted = sa.select(sa.func.count()).select_from(Product).where(mine(org_id=org_id, livemode=livemode))
    return session.scalar(counted) or 0


def views(
    session: Session,
    *,
    org_id: str,
    livemode: bool,
    product_id: str,
    limit: int,
    after: str | None = None,
    view_type: str | None = None,
) -> dict[str, Any]:
    """Return a page of a product's revisions, the last to arrive first (see `view_as_dict`).

    Raises:
        NotFound: there is no such product.
    """
    product(session, org_id=org_id, livemode=livemode, product_id=product_id)
    filters = [ProductView.org_id == org_id, ProductView.livemode == livemode, ProductView.product_id == product_id]
    if view_type is not None:
        filters.append(ProductView.view_type == view_type)
    if after:
        filters.append(ProductView.id < after)
    statement = sa.select(ProductView).where(*filters).order_by(ProductView.id.desc()).limit(limit + 1)
    rows = list(session.scalars(statement))
    page, more = rows[:limit], len(rows) > limit
    return {
        "data": [view_as_dict(row) for row in page],
        "has_more": more,
        "next_cursor": page[-1].id if more else None,
    }


def product_snapshots(session: Session, keys: Iterable[tuple[str, bool, str]]) -> dict[tuple[str, bool, str], Any]:
    """Return what jobs need to know of products, by ``(org_id, livemode, product_id)``; those there are.

    Each is ``{id, name, sku, category, room_types, description, metadata, views}``, the latter by view type, each the
    current revision as `revision_snapshots` has it.
    """
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    chosen = sa.tuple_(Product.org_id, Product.livemode, Product.id).in_(wanted)
    rows = list(session.scalars(sa.select(Product).where(chosen, Product.deleted_at.is_(None))))
    current = _current_views(session, rows)
    return {
        (row.org_id, row.livemode, row.id): {
            **_described(row),
            "views": {view.view_type: _snapshot(view) for view in current.get(row.id, ())},
        }
        for row in rows
    }


def revision_snapshots(session: Session, keys: Iterable[tuple[str, bool, str]]) -> dict[tuple[str, bool, str], Any]:
    """Return what jobs need to know of revisions, by ``(org_id, livemode, revision_id)``; those there are.

    Each is ``{id, product_id, view_type, version, is_current, generation_id, key, content_type, sha256, bytes, width,
    height}``.
    """
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    statement = (
        sa.select(ProductView)
        .join(Product, Product.id == ProductView.product_id)
        .where(sa.tuple_(ProductView.org_id, ProductView.livemode, ProductView.id).in_(wanted))
        .where(Product.deleted_at.is_(None))
    )
    return {(row.org_id, row.livemode, row.id): _snapshot(row) for row in session.scalars(statement)}


def shown(session: Session, row: Product) -> dict[str, Any]:
    """Return a product with its current views."""
    return as_dict(row, _current_views(session, [row]).get(row.id, ()))


def as_dict(row: Product, current: Sequence[ProductView]) -> dict[str, Any]:
    """Return a product as the other services see it; ``views`` are the current revisions, the front first."""
    shown_views = [view_as_dict(view) for view in current]
    return {
        **_described(row),
        "org_id": row.org_id,
        "thumbnail_key": shown_views[0]["thumbnail_key"] if shown_views else None,
        "views": shown_views,
        "livemode": row.livemode,
        "version": row.version,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


def view_as_dict(row: ProductView) -> dict[str, Any]:
    """Return a revision as the other services see it; times are RFC 3339, sizes bytes and pixels."""
    return {
        **_snapshot(row),
        "thumbnail_key": row.thumbnail_key,
        "source": "upload" if row.asset_id else "generation",
        "upload_id": row.asset_id,
        "image_id": row.image_id,
        "parent_id": row.parent_id,
        "livemode": row.livemode,
        "created_at": rfc3339(row.created_at),
    }


def _described(row: Product) -> dict[str, Any]:
    names = ("id", "name", "sku", "category", "room_types", "description")
    return {**{name: getattr(row, name) for name in names}, "metadata": row.details}


def _snapshot(row: ProductView) -> dict[str, Any]:
    names = ("id", "product_id", "view_type", "version", "is_current", "generation_id", *_PICTURE)
    return {name: getattr(row, name) for name in names}


def _current_views(session: Session, rows: Sequence[Product]) -> Mapping[str, Sequence[ProductView]]:
    """Return the current revisions of each product that has any, in the order of `VIEW_TYPES`."""
    if not rows:
        return {}
    of_these = ProductView.product_id.in_([row.id for row in rows])
    found = list(session.scalars(sa.select(ProductView).where(of_these, ProductView.is_current)))
    by_product: dict[str, list[ProductView]] = {}
    for view in sorted(found, key=lambda view: VIEW_TYPES.index(view.view_type)):
        by_product.setdefault(view.product_id, []).append(view)
    return by_product


def _place(after: str | None) -> tuple[str | None, int]:
    """Return the id a page comes after, and the number of the page."""
    if after is None:
        return None, 1
    last, _, number = after.partition("/")
    if not (number.isascii() and number.isdigit()) or len(number) > _PAGE_DIGITS:
        detail = "take next_cursor of the page before as it is"
        errors = [{"pointer": "/query/after", "code": "invalid", "detail": detail}]
        raise BadRequest(f"/query/after: {detail}", errors=errors)
    return last, int(number)
