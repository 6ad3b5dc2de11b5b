"""Styles an organization has saved: one of ours as the base, with words and colours of its own. Commands and reads."""

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.generation.models import SavedStyle
from services.generation.styles import STYLES, is_saved
from shared import pages
from shared.database import Database
from shared.problems import BadRequest, Conflict, LimitExceeded, NotFound, PreconditionFailed
from shared.times import rfc3339

log = structlog.get_logger(__name__)

MOST = 200
_NO_STYLE = "There is no such saved style."
_UNIQUE = "23505"
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('saved styles of ' || :org_id, 0))")


def create(session: Session, *, style_id: str, org_id: str, livemode: bool, **given: Any) -> dict[str, Any]:
    """Save a style; idempotent by ``style_id``. ``given`` are ``user_id``, ``name``, ``base``, ``words``, ``colours``.

    Two of an organization at once wait for each other here, until the transaction ends.

    Raises:
        BadRequest: the base is none of our styles.
        Conflict: the name is taken.
        LimitExceeded: there are 200 already.
    """
    _require_base(given["base"])
    session.execute(_LOCK, {"org_id": org_id})
    found = session.get(SavedStyle, style_id)
    if found is not None:
        return shown(found)
    count = session.scalar(sa.select(sa.func.count()).where(_mine(org_id, livemode=livemode)))
    if (count or 0) >= MOST:
        raise LimitExceeded(f"{MOST} styles may be saved: delete one first.", limit=MOST, excess=1)
    row = SavedStyle(id=style_id, org_id=org_id, livemode=livemode, **given)
    session.add(row)
    _write(session, row)
    log.info("style_saved", style_id=style_id, org_id=org_id)
    return shown(row)


def change(
    session: Session,
    *,
    style_id: str,
    org_id: str,
    livemode: bool,
    given: Mapping[str, Any],
    only_versions: Collection[str] | None = None,
) -> dict[str, Any]:
    """Change a saved style; jobs that were asked for with it keep what it was.

    Raises:
        NotFound: there is none of this id in this mode.
        PreconditionFailed: it is none of ``only_versions`` any more.
        BadRequest, Conflict: as `create`.
    """
    row = _locked(session, style_id=style_id, org_id=org_id, livemode=livemode, only_versions=only_versions)
    _require_base(given.get("base", row.base))
    different = {name: value for name, value in given.items() if getattr(row, name) != value}
    if different:
        for name, value in different.items():
            setattr(row, name, value)
        row.version += 1
        row.updated_at = sa.func.now()
        _write(session, row)
    return shown(row)


def delete(
    session: Session, *, style_id: str, org_id: str, livemode: bool, only_versions: Collection[str] | None = None
) -> None:
    """Delete a saved style; what was made in it keeps it.

    Raises:
        NotFound, PreconditionFailed: as `change`.
    """
    row = _locked(session, style_id=style_id, org_id=org_id, livemode=livemode, only_versions=only_versions)
    row.deleted_at = sa.func.now()


def one(session: Session, *, style_id: str, org_id: str, livemode: bool) -> dict[str, Any]:
    """Return one saved style.

    Raises:
        NotFound: there is none of this id in this mode.
    """
    return shown(_row(session, style_id=style_id, org_id=org_id, livemode=livemode))


def page(
    session: Session, *, org_id: str, livemode: bool, limit: int = pages.PAGE, after: str | None = None
) -> dict[str, Any]:
    """Return saved styles, newest first, as a page."""
    statement = sa.select(SavedStyle).where(_mine(org_id, livemode=livemode)).order_by(SavedStyle.id.desc())
    if after:
        statement = statement.where(SavedStyle.id < after)
    rows = list(session.scalars(statement.limit(limit + 1)))
    return pages.page(rows, limit=limit, show=shown)


def require(session: Session, style: str | None, *, org_id: str, livemode: bool) -> None:
    """Make sure that a style can be named: by a slug of ours, or by the id of one that was saved in this mode.

    Raises:
        BadRequest: it cannot.
    """
    if style is None or style in STYLES:
        return
    mine = sa.and_(_mine(org_id, livemode=livemode), SavedStyle.id == style)
    if not is_saved(style) or not session.scalar(sa.select(sa.exists().where(mine))):
        detail = "this is no style: see the choices of `GET /v1/workflows`, and `GET /v1/styles`"
        raise BadRequest("There is no such style.", errors=[{"pointer": "/style", "code": "invalid", "detail": detail}])


def resolved(
    db: Database, *, org_id: str, livemode: bool, inputs: Mapping[str, Any], assets: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return ``assets`` with a snapshot of the saved style that ``inputs`` name, where they have none yet.

    Raises:
        NotFound: there is none of this id in this mode.
    """
    style = inputs.get("style")
    if not is_saved(style) or style in assets:
        return assets
    with db.transaction(org_id=org_id, livemode=livemode) as session:
        row = _row(session, style_id=str(style), org_id=org_id, livemode=livemode)
    # A copy of their kind: those of a retry know what to say of an upload that is none of its job's.
    wider: dict[str, Any] = copy(assets)  # type: ignore[arg-type]  # every caller has a dict
    wider[row.id] = _snapshot(row)
    return wider


def shown(row: SavedStyle) -> dict[str, Any]:
    """Return a saved style in the contract's shape."""
    return {
        "id": row.id,
        "name": row.name,
        "base": row.base,
        "words": row.words,
        "colours": row.colours,
        "version": row.version,
        "livemode": row.livemode,
        "created_at": rfc3339(row.created_at, precision="microseconds"),
        "updated_at": rfc3339(row.updated_at, precision="microseconds"),
    }


def _snapshot(row: SavedStyle) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("id", "name", "base", "words", "colours")}


def _mine(org_id: str, *, livemode: bool) -> sa.ColumnElement[bool]:
    return sa.and_(SavedStyle.org_id == org_id, SavedStyle.livemode == livemode, SavedStyle.deleted_at.is_(None))


def _row(session: Session, *, style_id: str, org_id: str, livemode: bool) -> SavedStyle:
    row = session.get(SavedStyle, style_id)
    if row is None or (row.org_id, row.livemode) != (org_id, livemode) or row.deleted_at:
        raise NotFound(_NO_STYLE)
    return row


def _locked(session: Session, *, only_versions: Collection[str] | None, **of: Any) -> SavedStyle:
    session.execute(sa.select(SavedStyle.id).where(SavedStyle.id == of["style_id"]).with_for_update())
    row = _row(session, **of)
    if only_versions is not None and str(row.version) not in only_versions:
        raise PreconditionFailed
    return row


def _write(session: Session, row: SavedStyle) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if getattr(error.orig, "pgcode", None) != _UNIQUE:
            raise
        raise Conflict("Another saved style has this name: choose another, or change that one.") from error
    session.refresh(row)


def _require_base(base: str) -> None:
    if base not in STYLES:
        detail = f"choose one of {', '.join(STYLES)}"
        raise BadRequest(
            "The base is no style of ours.", errors=[{"pointer": "/base", "code": "invalid", "detail": detail}]
        )
