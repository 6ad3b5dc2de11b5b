"""What the catalog does: takes uploads in, and deletes them so that no crash leaves row and bytes at odds.

A deletion is three steps: claim the row (from here on the asset is gone for everybody), remove the bytes with
no transaction open, record it. A crash between them leaves a claimed row, which `remove_due` takes up again. A face is
announced before its bytes are stored, by a row that is claimed for deletion until it is registered.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.catalog import assets, duplicates, expected, queries
from services.catalog.assets import Expected, Upload
from services.catalog.models import Asset, Product, ProductView
from shared.crash import crash_point
from shared.database import Database
from shared.events import AssetUploaded, SourceDeleted
from shared.problems import BadRequest, Conflict, NotFound, Unavailable, UploadInUse
from shared.removal import BATCH, Due, remove, sweep
from shared.storage import ObjectStore, StorageUnavailable

log = structlog.get_logger(__name__)

CLAIM_SECONDS = 60
_PRODUCTS_NAMED = 10
# What makes two calls tell of one upload.
_SAME = ("org_id", "livemode", "key", "sha256")
_CLAIM_ENDS = sa.func.now() + sa.text(f"interval '{CLAIM_SECONDS} seconds'")
_OWED = sa.or_(
    sa.and_(Asset.deletion_reason.is_(None), Asset.delete_after <= sa.func.now()),
    sa.and_(Asset.deletion_reason.is_not(None), Asset.deleted_at.is_(None), Asset.claimed_until <= sa.func.now()),
)


def resolve_many(db: Database, several: Sequence[queries.Wanted]) -> list[dict[str, Any] | NotFound]:
    """Return, for each who asks, the snapshots or the refusal of `queries.resolve`."""
    owners = {(each.org_id, each.livemode) for each in several}
    org_id, livemode = owners.pop() if len(owners) == 1 else (None, None)
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        return queries.resolve_many(session, several)


def announce_asset(db: Database, upload: Upload) -> bool:
    """Record an upload whose bytes are about to be stored: if it is not registered within minutes they are deleted.

    A repeat gives it that time once more. Returns whether the bytes are needed: not of what is registered already.

    Raises:
        BadRequest: the purpose is unknown.
        Conflict: the id or the key belongs to another upload.
        NotFound: it was recorded and deleted since, or given up.
    """
    _require_known(upload.purpose)
    owed = {"announced": True, "deletion_reason": "retention", "claimed_until": sa.func.now() + assets.ANNOUNCED_FOR}
    with db.transaction(org_id=upload.org_id, livemode=upload.livemode) as session:
        added = session.scalar(
            insert(Asset).values({**_row(upload), **owed}).on_conflict_do_nothing().returning(Asset.id)
        )
        if added or _changed_announced(session, upload, owed):
            return True
        _registered_before(session, upload)
        return False


def register_asset(db: Database, upload: Upload) -> dict[str, Any]:
    """Record an upload whose bytes are stored, and tell of it; a repeat changes nothing.

    Where the organization has the same picture already, for the same purpose, that asset is the answer: its ``id`` is
    another then, and the bytes under ``upload.key`` are the caller's to delete. Faces are never the same.

    Raises:
        BadRequest: the purpose is unknown.
        Conflict: the id or the key belongs to another upload.
        NotFound: it was recorded and deleted since; bytes stored under its key again are the caller's to delete.
    """
    _require_known(upload.purpose)
    with db.transaction(org_id=upload.org_id, livemode=upload.livemode) as session:
        same = duplicates.claimed(session, upload)
        if same is not None:
            expected.fulfil(session, upload, asset_id=same.id)
            log.info("duplicate_upload", asset_id=same.id, upload_id=upload.asset_id, org_id=upload.org_id)
            return duplicates.as_dict(same)
        added = session.scalar(insert(Asset).values(_row(upload)).on_conflict_do_nothing().returning(Asset))
        added = added or _changed_announced(session, upload, _arrived(upload))
        if added is None:
            return _registered_before(session, upload)
        expected.fulfil(session, upload, asset_id=added.id)
        db.publish(session, [_uploaded(added)])
        log.info("asset_registered", asset_id=added.id, org_id=added.org_id, purpose=added.purpose)
        return queries.as_dict(added)


def delete_asset(db: Database, store: ObjectStore, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
    """Delete an asset for good and return what it was; done twice, the second finds nothing left to do.

    Raises:
        NotFound: the organization never had it.
        UploadInUse: views of products show it.
        Unavailable: the store does not answer. The asset is gone for callers; its bytes follow later.
    """
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        _require_unused(session, org_id=org_id, livemode=livemode, asset_id=asset_id)
        claimed = _claim(session, org_id=org_id, livemode=livemode, asset_id=asset_id)
        found = queries.as_dict(claimed)
        ((_, keys),) = _keys(session, [claimed])
    crash_point("catalog.asset_claimed")
    if claimed.deleted_at is None:
        try:
            remove(store, keys)
        except StorageUnavailable as error:
            log.warning("asset_removal_postponed", asset_id=asset_id, error=str(error))
            raise Unavailable("The upload is being deleted; its bytes will be removed shortly.") from error
        crash_point("catalog.object_removed")
        with db.transaction(org_id=org_id, livemode=livemode) as session:
            _record(db, session, asset_ids=[asset_id])
    return found


def remove_due(db: Database, store: ObjectStore, *, batch: int = BATCH) -> int:
    """Delete what its retention has ended for and what an earlier deletion left unfinished; return how many.

    Every replica may run this at once: each claims rows of its own, ``batch`` at a time. What cannot be removed comes
    up again when the claim ends.
    """

    def due(limit: int) -> list[Due]:
        with db.transaction() as session:
            return _claim_due(session, limit=limit)

    def record(asset_ids: list[str]) -> None:
        with db.transaction() as session:
            _record(db, session, asset_ids=asset_ids)

    return sweep(store, due=due, record=record, what="asset", batch=batch)


def expect_upload(db: Database, coming: Expected) -> dict[str, Any]:
    """Record what a client is going to send to the store; a repeat answers what was recorded first.

    Raises:
        BadRequest: the purpose is unknown.
        Conflict: the id belongs to another upload.
        LimitExceeded: the organization has too many open already.
    """
    _require_known(coming.purpose)
    with db.transaction(org_id=coming.org_id, livemode=coming.livemode) as session:
        expected.record(session, coming)
        return queries.expected_upload(
            session, org_id=coming.org_id, livemode=coming.livemode, upload_id=coming.upload_id
        )


def collect_expected(db: Database, store: ObjectStore) -> int:
    """Delete what was sent and never became an asset, and what was sent once more after it had; return how many.

    Every replica may run this at once: what it does, it can do twice.
    """

    def due(limit: int) -> Sequence[Due]:
        with db.transaction() as session:
            return expected.due(session, limit=limit)

    def forget(upload_ids: list[str]) -> None:
        with db.transaction() as session:
            expected.forget(session, upload_ids=upload_ids)

    return sweep(store, due=due, record=forget, what="expected_upload")


def _require_known(purpose: str) -> None:
    if purpose not in assets.PURPOSES:
        purposes = ", ".join(assets.PURPOSES)
        raise BadRequest(f"The purpose of an upload is one of {purposes}, not {purpose!r}.")


def _row(upload: Upload) -> dict[str, Any]:
    kept_for = assets.kept_for(upload.purpose, keep_original=upload.keep_original)
    row = dataclasses.asdict(upload)
    row["id"] = row.pop("asset_id")
    row["delete_after"] = sa.func.now() + kept_for if kept_for else None
    return row


def _arrived(upload: Upload) -> dict[str, Any]:
    """Return what changes when an announced upload is registered; its time begins now."""
    there = {"announced": False, "deletion_reason": None, "claimed_until": None}
    return {**_row(upload), **there, "created_at": sa.func.now()}


def _changed_announced(session: Session, upload: Upload, values: dict[str, Any]) -> Asset | None:
    """Change an upload that is announced and not given up; return it, or None where it is something else."""
    same = [getattr(Asset, name) == getattr(upload, name) for name in _SAME]
    this = sa.and_(Asset.id == upload.asset_id, Asset.announced, *same)
    return session.scalar(sa.update(Asset).where(this).values(values).returning(Asset))


def _registered_before(session: Session, upload: Upload) -> dict[str, Any]:
    """Return the asset an earlier call recorded; the caller never got that answer, or asks again."""
    known = session.get(Asset, upload.asset_id)
    if known is not None and known.org_id == upload.org_id and known.deletion_reason is not None:
        raise NotFound("This upload was deleted.")
    if known is None or any(getattr(known, name) != getattr(upload, name) for name in _SAME):
        raise Conflict(f"The id {upload.asset_id} or its key is taken by another upload; use a new one.")
    return queries.as_dict(known)


def _uploaded(row: Asset) -> AssetUploaded:
    return AssetUploaded(
        asset_id=row.id,
        org_id=row.org_id,
        user_id=row.user_id,
        purpose=row.purpose,
        content_type=row.content_type,
        bytes=row.bytes,
        sha256=row.sha256,
        livemode=row.livemode,
    )


def _require_unused(session: Session, *, org_id: str, livemode: bool, asset_id: str) -> None:
    """Refuse to delete what products show; a view that is being made of the asset has it locked until it is there."""
    mine = sa.and_(Asset.org_id == org_id, Asset.livemode == livemode, Asset.id == asset_id)
    session.execute(sa.select(Asset.id).where(mine).with_for_update())
    shown = (
        sa.select(ProductView.product_id)
        .join(Product, Product.id == ProductView.product_id)
        .where(ProductView.asset_id == asset_id, Product.deleted_at.is_(None))
        .distinct()
        .order_by(ProductView.product_id)
        .limit(_PRODUCTS_NAMED)
    )
    product_ids = list(session.scalars(shown))
    if product_ids:
        raise UploadInUse(f"Products show this upload: {', '.join(product_ids)}.", product_ids=product_ids)


def _claim(session: Session, *, org_id: str, livemode: bool, asset_id: str) -> Asset:
    """Take one asset out of sight and return it; an earlier reason stays, and so does a finished deletion."""
    mine = sa.and_(Asset.org_id == org_id, Asset.livemode == livemode, Asset.id == asset_id)
    claimed = session.scalar(
        sa.update(Asset).where(mine, Asset.deleted_at.is_(None)).values(_claimed(reason="requested")).returning(Asset)
    )
    found = claimed or session.scalar(sa.select(Asset).where(mine))
    if found is None:
        raise NotFound("There is no such upload.")
    return found


def _claim_due(session: Session, *, limit: int) -> list[Due]:
    """Claim up to ``limit`` rows nobody else is at, in no fixed order, and return their keys."""
    free = sa.select(Asset.id).where(_OWED).order_by(sa.func.random()).limit(limit)
    due = free.with_for_update(skip_locked=True).cte("due")
    claimed = session.scalars(
        sa.update(Asset).where(Asset.id == due.c.id).values(_claimed(reason="retention")).returning(Asset)
    )
    return _keys(session, claimed.all())


def _claimed(*, reason: str) -> dict[str, Any]:
    """Return what a claim changes; ``reason`` is why the asset goes, where that is not decided already."""
    decided = sa.func.coalesce(Asset.deletion_reason, reason)
    return {"deletion_reason": decided, "claimed_until": _CLAIM_ENDS, "announced": False}


def _keys(session: Session, rows: Sequence[Asset]) -> list[Due]:
    """Return under which keys the store may have anything of assets, what was sent for them as it came included."""
    sent = expected.sent_for(session, [row.id for row in rows])
    return [(row.id, [*filter(None, (row.key, row.thumbnail_key)), *sent.get(row.id, ())]) for row in rows]


def _record(db: Database, session: Session, *, asset_ids: Sequence[str]) -> None:
    """Write down that the bytes are gone and tell of it: once, whoever else was at it."""
    ours = sa.select(Asset.id).where(Asset.id.in_(asset_ids)).order_by(Asset.id)
    locked = ours.with_for_update().cte("locked")
    removed = session.scalars(
        sa.update(Asset)
        .where(Asset.id == locked.c.id, Asset.deleted_at.is_(None))
        .values(deleted_at=sa.func.now(), claimed_until=None, file_name=None)
        .returning(Asset)
    ).all()
    db.publish(session, [_gone(row) for row in removed])
    for row in removed:
        log.info("asset_removed", asset_id=row.id, org_id=row.org_id, reason=row.deletion_reason)


def _gone(row: Asset) -> SourceDeleted:
    return SourceDeleted(
        asset_id=row.id,
        org_id=row.org_id,
        reason=str(row.deletion_reason),
        sha256=row.sha256,
        livemode=row.livemode,
    )
