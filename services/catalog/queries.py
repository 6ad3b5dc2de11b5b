"""Reads of the catalog, from a session to plain values; each names the organization and mode whose rows it may show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.catalog import assets, product_queries
from services.catalog.models import Asset, ExpectedUpload
from shared.problems import Conflict, NotFound
from shared.times import rfc3339

_KINDS = {"ast": "upload", "prd": "product", "rev": "view of a product"}
PRESENT = sa.and_(
    Asset.deletion_reason.is_(None),
    sa.or_(Asset.delete_after.is_(None), Asset.delete_after > sa.func.now()),
)


def asset(session: Session, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
    """Return one asset (see `as_dict`).

    Raises:
        NotFound: there is none here, or its deletion has begun.
    """
    mine = sa.and_(Asset.org_id == org_id, Asset.livemode == livemode, PRESENT)
    found = session.scalar(sa.select(Asset).where(mine, Asset.id == asset_id))
    if found is None:
        raise NotFound("There is no such upload; it may have been deleted.")
    return as_dict(found)


def deletion(session: Session, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
    """Return what a receipt tells of a deleted asset; its bytes were looked for after they were deleted, and not there.

    Returns:
        ``{upload_id, org_id, purpose, sha256, uploaded_at, delete_after, deleted_at, reason, consent, livemode}``.

    Raises:
        NotFound: the organization never had it.
        Conflict: its bytes are there still.
    """
    mine = sa.and_(Asset.org_id == org_id, Asset.livemode == livemode, Asset.id == asset_id)
    found = session.scalar(sa.select(Asset).where(mine))
    if found is None:
        raise NotFound("There is no such upload.")
    if found.deleted_at is None:
        raise Conflict("This upload is not deleted yet: there is a receipt once its bytes are gone.")
    return {
        "upload_id": found.id,
        "org_id": found.org_id,
        "purpose": found.purpose,
        "sha256": found.sha256,
        "uploaded_at": rfc3339(found.created_at),
        "delete_after": rfc3339(found.delete_after) if found.delete_after else None,
        "deleted_at": rfc3339(found.deleted_at),
        "reason": found.deletion_reason,
        "consent": _consent(found),
        "livemode": found.livemode,
    }


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a job of an organization, in a mode, is to be made of: uploads, products, revisions of their views."""

    org_id: str
    livemode: bool
    asset_ids: Sequence[str] = ()
    product_ids: Sequence[str] = ()
    revision_ids: Sequence[str] = ()

    def keys(self, ids: Sequence[str]) -> list[tuple[str, bool, str]]:
        """Return the key of each of ``ids`` among all organizations and modes."""
        return [(self.org_id, self.livemode, one) for one in ids]


def resolve(session: Session, *, org_id: str, livemode: bool, **ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a job needs to know of each thing, by id, so that it never has to ask again.

    ``ids`` are ``asset_ids``, ``product_ids`` and ``revision_ids``. Of an asset it is ``{id, key, sha256, content_type,
    bytes, width, height, purpose, delete_after}``; of products and revisions see `product_queries`.

    Raises:
        NotFound: one or more are not here; ``missing`` lists their ids.
    """
    (outcome,) = resolve_many(session, [Wanted(org_id=org_id, livemode=livemode, **ids)])
    if isinstance(outcome, NotFound):
        raise outcome
    return outcome


def resolve_many(session: Session, several: Sequence[Wanted]) -> list[dict[str, dict[str, Any]] | NotFound]:
    """Return for each who asks what `resolve` returns, or raises; one query of each kind for all."""
    known: dict[tuple[str, bool, str], dict[str, Any]] = {
        **_asset_snapshots(session, [key for each in several for key in each.keys(each.asset_ids)]),
        **product_queries.product_snapshots(session, [key for each in several for key in each.keys(each.product_ids)]),
        **product_queries.revision_snapshots(
            session, [key for each in several for key in each.keys(each.revision_ids)]
        ),
    }
    return [_resolved({key[2]: known.get(key) for ids in _ids_of(each) for key in each.keys(ids)}) for each in several]


def _ids_of(wanted: Wanted) -> tuple[Sequence[str], ...]:
    return wanted.asset_ids, wanted.product_ids, wanted.revision_ids


def _asset_snapshots(
    session: Session, keys: Sequence[tuple[str, bool, str]]
) -> dict[tuple[str, bool, str], dict[str, Any]]:
    if not keys:
        return {}
    mine = sa.tuple_(Asset.org_id, Asset.livemode, Asset.id).in_(sorted(set(keys)))
    found = session.scalars(sa.select(Asset).where(mine, PRESENT))
    return {(row.org_id, row.livemode, row.id): _snapshot(row) for row in found}


def _resolved(found: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]] | NotFound:
    missing = sorted(one for one, snapshot in found.items() if snapshot is None)
    if missing:
        kinds = sorted({_KINDS.get(one.partition("_")[0], "thing") for one in missing})
        return NotFound(f"No such {' or '.join(kinds)}: " + ", ".join(missing), missing=missing)
    return {one: snapshot for one, snapshot in found.items() if snapshot is not None}


def expected_upload(session: Session, *, org_id: str, livemode: bool, upload_id: str) -> dict[str, Any]:
    """Return one upload whose bytes go to the store directly (see `expected_as_dict`).

    Raises:
        NotFound: there is none here, or its time is over.
    """
    mine = sa.and_(ExpectedUpload.org_id == org_id, ExpectedUpload.livemode == livemode)
    waits = sa.and_(ExpectedUpload.id == upload_id, ExpectedUpload.collect_after > sa.func.now())
    found = session.scalar(sa.select(ExpectedUpload).where(mine, waits))
    if found is None:
        raise NotFound("There is no such upload to complete; links to send one to are made by /v1/uploads/presign.")
    return expected_as_dict(found)


def expected_as_dict(row: ExpectedUpload) -> dict[str, Any]:
    """Return an expected upload as the gateway sees it; ``asset_id`` is what became of it, or None."""
    names = ("id", "key", "user_id", "purpose", "keep_original", "content_type", "bytes", "sha256", "asset_id")
    return {**{name: getattr(row, name) for name in names}, "expires_at": rfc3339(row.expires_at)}


def as_dict(row: Asset) -> dict[str, Any]:
    """Return an asset as the other services see it; times are RFC 3339, sizes bytes and pixels."""
    return {
        **_snapshot(row),
        "livemode": row.livemode,
        "created_at": rfc3339(row.created_at),
        "thumbnail_key": row.thumbnail_key,
        "consent": _consent(row),
        "warnings": assets.warnings(width=row.width, height=row.height),
    }


def _consent(row: Asset) -> dict[str, Any] | None:
    """Return who has agreed, and when, that a face is kept; deleting it withdraws that. Other pictures need none."""
    if row.purpose != "face" or not row.keep_original:
        return None
    return {"given_at": rfc3339(row.created_at), "given_by": row.user_id}


def _snapshot(row: Asset) -> dict[str, Any]:
    return {
        "id": row.id,
        "key": row.key,
        "sha256": row.sha256,
        "content_type": row.content_type,
        "bytes": row.bytes,
        "width": row.width,
        "height": row.height,
        "purpose": row.purpose,
        "delete_after": rfc3339(row.delete_after) if row.delete_after else None,
    }
