"""What the catalog does with products: makes them, changes them, deletes them, gives them views."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.catalog import product_queries, revisions
from services.catalog.models import Product
from services.catalog.products import NewProduct, Picture
from shared.database import Batch, Database
from shared.events import Event, GenerationCompleted, ProductChanged, ProductDeleted
from shared.problems import Conflict, NotFound, PreconditionFailed, SkuTaken

log = structlog.get_logger(__name__)

_TRIES = 5


def create_product(db: Database, new: NewProduct) -> dict[str, Any]:
    """Make a product, with its picture if it has one, and tell of it; a repeat under the same id changes nothing.

    Raises:
        SkuTaken: another product has the SKU.
        Conflict: the id belongs to another product.
        NotFound: there is no such upload; or the product was made by an earlier call, and deleted since.
        BadRequest: the upload cannot be a view.
    """
    with db.transaction(org_id=new.org_id, livemode=new.livemode) as session:
        row = _inserted(session, new)
        if row is None:
            return _made_before(session, new)
        told = [_changed(row, "created", user_id=new.user_id), *_pictured(session, row, new)]
        db.publish(session, told)
        log.info("product_created", product_id=row.id, org_id=row.org_id)
        return product_queries.shown(session, row)


def put_product(db: Database, new: NewProduct) -> dict[str, Any]:
    """Make the product with this SKU, or make the one there is what ``new`` says; return ``{product, created}``.

    What is the same as before is no change, and not told: whoever keeps another system in step may send everything
    every night. A picture becomes a revision of the front view unless that shows it already.

    Raises:
        NotFound, BadRequest: as `create_product`.
    """
    with db.transaction(org_id=new.org_id, livemode=new.livemode) as session:
        row, created = _inserted_or_locked(session, new)
        by = new.user_id
        told: list[Event] = [_changed(row, "created", user_id=by)] if created else _apply(row, new.said, user_id=by)
        if created or not _shows(session, row, new.picture):
            told += _pictured(session, row, new)
        db.publish(session, told)
        log.info("product_put", product_id=row.id, org_id=row.org_id, created=created, changes=len(told))
        return {"product": product_queries.shown(session, row), "created": created}


def change_product(
    db: Database,
    *,
    org_id: str,
    livemode: bool,
    product_id: str,
    user_id: str | None,
    changes: Mapping[str, Any],
    versions: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Change what ``changes`` names and return the product; what is the same as before is no change.

    ``versions`` are those in which it may be for that (If-Match); None is any.

    Raises:
        NotFound: there is no such product.
        PreconditionFailed: it is in another version.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        row = _locked(session, org_id=org_id, livemode=livemode, product_id=product_id)
        _require_version(row, versions)
        db.publish(session, _apply(row, changes, user_id=user_id))
        return product_queries.shown(session, row)


def delete_product(
    db: Database,
    *,
    org_id: str,
    livemode: bool,
    product_id: str,
    user_id: str | None,
    versions: Sequence[int] | None = None,
) -> None:
    """Take a product out of sight; its pictures follow when their time is over (see `purging`). Twice is once.

    Raises:
        NotFound: there never was such a product, or it is past that time.
        PreconditionFailed: it is in none of ``versions``.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        mine = sa.and_(Product.org_id == org_id, Product.livemode == livemode, Product.id == product_id)
        row = session.scalar(sa.select(Product).where(mine).with_for_update())
        if row is None:
            raise NotFound("There is no such product.")
        if row.deleted_at is not None:
            return
        _require_version(row, versions)
        row.deleted_at, row.updated_at, row.version = sa.func.now(), sa.func.now(), row.version + 1
        gone = ProductDeleted(product_id=row.id, org_id=org_id, user_id=user_id, sku=row.sku, livemode=livemode)
        db.publish(session, [gone])
        log.info("product_deleted", product_id=product_id, org_id=org_id)


def add_view(
    db: Database, *, org_id: str, livemode: bool, product_id: str, user_id: str | None, picture: Picture
) -> dict[str, Any]:
    """Make an upload a revision of a view and return it; a repeat under the same id changes nothing.

    Raises:
        NotFound: there is no such product, or no such upload.
        BadRequest: the upload cannot be a view.
        Conflict: the id belongs to another revision.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        product = _locked(session, org_id=org_id, livemode=livemode, product_id=product_id)
        row, told = revisions.add_uploaded(session, product, picture, user_id=user_id)
        db.publish(session, told)
        return product_queries.view_as_dict(row)


def add_generated_views(db: Database, completed: Batch[GenerationCompleted]) -> None:
    """Take up the views that generations made anew; most generations make none, and leave no trace here."""
    renewing = [event for event in completed if event.renewed_view]
    if renewing:
        db.once(Batch(renewing, consumer=completed.consumer), revisions.add_generated)


def _inserted(session: Session, new: NewProduct) -> Product | None:
    """Return the new row; None where its id, or its SKU, is there already."""
    values = {
        "id": new.product_id,
        "org_id": new.org_id,
        "livemode": new.livemode,
        "user_id": new.user_id,
        "sku": new.sku,
        **_columns(new.said),
    }
    return session.scalar(insert(Product).values(values).on_conflict_do_nothing().returning(Product))


def _made_before(session: Session, new: NewProduct) -> dict[str, Any]:
    """Return the product an earlier call made under the same id.

    Raises:
        SkuTaken, NotFound, Conflict: as `create_product`.
    """
    ours = sa.and_(Product.org_id == new.org_id, Product.livemode == new.livemode)
    known = session.scalar(sa.select(Product).where(ours, Product.id == new.product_id))
    if known is not None and known.deleted_at is not None:
        raise NotFound("This product was deleted.")
    if known is not None and known.sku == new.sku:
        return product_queries.shown(session, known)
    mine = product_queries.mine(org_id=new.org_id, livemode=new.livemode)
    holder = session.scalar(sa.select(Product.id).where(mine, Product.sku == new.sku))
    if known is not None or holder is None:
        raise Conflict(f"The id {new.product_id} is taken by another product; use a new one.")
    raise SkuTaken(f"The product {holder} has the SKU {new.sku} already.", product_id=holder)


def _inserted_or_locked(session: Session, new: NewProduct) -> tuple[Product, bool]:
    """Return the row of the SKU, and whether it is new; one that is deleted while its turn is waited for is no row."""
    ours = sa.and_(product_queries.mine(org_id=new.org_id, livemode=new.livemode), Product.sku == new.sku)
    for _ in range(_TRIES):
        if row := _inserted(session, new):
            return row, True
        if row := session.scalar(sa.select(Product).where(ours).with_for_update()):
            return row, False
    raise Conflict("Products with this SKU were deleted again and again just now; send the request again.")


def _locked(session: Session, *, org_id: str, livemode: bool, product_id: str) -> Product:
    mine = product_queries.mine(org_id=org_id, livemode=livemode)
    row = session.scalar(sa.select(Product).where(mine, Product.id == product_id).with_for_update())
    if row is None:
        raise NotFound("There is no such product; it may have been deleted.")
    return row


def _require_version(row: Product, versions: Sequence[int] | None) -> None:
    if versions is not None and row.version not in versions:
        raise PreconditionFailed(f"The product is in version {row.version} by now.")


def _apply(row: Product, changes: Mapping[str, Any], *, user_id: str | None) -> list[Event]:
    """Write what differs; return the event that tells of it, if anything does."""
    columns = _columns(changes).items()
    differing = {name: value for name, value in columns if _as_json(getattr(row, name)) != _as_json(value)}
    if not differing:
        return []
    for name, value in differing.items():
        setattr(row, name, value)
    row.version += 1
    row.updated_at = sa.func.now()
    return [_changed(row, "updated", user_id=user_id)]


def _as_json(value: Any) -> str:
    """Return a value as JSON tells it from others: in Python ``True`` is 1."""
    return json.dumps(value, sort_keys=True)


def _columns(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a client says of a product by the model's names: ``metadata`` is SQLAlchemy's own there."""
    return {"details" if name == "metadata" else name: value for name, value in said.items()}


def _shows(session: Session, row: Product, picture: Picture | None) -> bool:
    """Tell whether the product shows the picture already, in the view that it is to be of."""
    if picture is None:
        return True
    current = product_queries.shown(session, row)["views"]
    return any((view["view_type"], view["upload_id"]) == (picture.view_type, picture.upload_id) for view in current)


def _pictured(session: Session, row: Product, new: NewProduct) -> Sequence[Event]:
    if new.picture is None:
        return []
    _, told = revisions.add_uploaded(session, row, new.picture, user_id=new.user_id)
    return told


def _changed(row: Product, change: str, *, user_id: str | None) -> ProductChanged:
    names = ("org_id", "name", "sku", "category", "room_types", "version", "livemode")
    return ProductChanged(
        product_id=row.id, user_id=user_id, change=change, **{name: getattr(row, name) for name in names}
    )
