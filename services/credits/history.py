"""The history of a wallet: one item per transfer, newest first. Reads only."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits.models import UNITS, Entry, Grant, Line, Reservation
from services.credits.moments import moment
from shared.pages import PAGE, check_limit, no_such_cursor, page
from shared.problems import BadRequest
from shared.times import rfc3339

KINDS = ("hold", "capture", "refund", "return", "grant", "expiry", "adjustment", "allowance")

# Of a transfer's two entries the one that tells its story: the wallet's, or where the wallet is not touched, held's
# (the other one of a capture is of no organization). Word for word the condition of the index `entries_history`.
_SHOWN = sa.or_(Entry.version.is_not(None), Entry.kind == "capture")
_EQUAL = {"product": Entry.product, "job": Entry.job_id}
_FILTERS = {*_EQUAL, "generation", "session", "kind", "unit", "since", "until"}
_CAUSES = {
    "hold": "job_accepted",
    "capture": "generation_completed",
    "return": "refunded_by_support",
    "expiry": "expired",
}


def entries(
    session: Session, /, *, org_id: str, limit: int = PAGE, after: str | None = None, **chosen: str | None
) -> dict[str, Any]:
    """Return the history of an organization, newest first: one item per transfer.

    ``amount`` is the change of what is available and ``held`` that of what is held: the first summed over all items
    of a unit is its balance, the second what is held. Only a change of the wallet has a balance before and after.
    ``cause`` is a code for what brought it about: ``job_accepted``, ``generation_completed``, the reason of a refund,
    ``refunded_by_support``, the kind of a grant, ``allowance``, ``expired``, ``adjustment``.

    Args:
        session: of a transaction of the organization.
        org_id: whose history.
        limit: items at most, 1 to 200.
        after: the ``next_cursor`` of the page before.
        chosen: only what belongs to this ``job``, ``generation`` or ``session``, paid for this ``product`` line (such
            as ``staging``), is of this ``kind`` or in this ``unit``, and was written from ``since`` on, before
            ``until`` (both RFC 3339).

    Raises:
        BadRequest: limit, cursor, filter, kind, unit or time make no sense.
    """
    check_limit(limit)
    if unknown := chosen.keys() - _FILTERS:
        raise BadRequest(f"Entries cannot be chosen by {', '.join(sorted(unknown))}.")
    found = sa.select(Entry.id).where(Entry.org_id == org_id, _SHOWN, *_conditions(chosen, org_id=org_id))
    if after is not None:
        found = found.where(Entry.id < _position(session, after, org_id=org_id))
    # The page is found in an index alone, whatever is asked for, and only its own rows are read.
    found = found.order_by(Entry.id.desc()).limit(limit + 1)
    rows = session.execute(
        sa.select(Entry, Reservation.session_id, Grant.kind.label("grant_kind"))
        .outerjoin(Reservation, Reservation.job_id == Entry.job_id)
        .outerjoin(Grant, Grant.id == Entry.grant_id)
        .where(Entry.id.in_(found))
        .order_by(Entry.id.desc())
    ).all()
    return page(rows, limit=limit, show=_item, key="id")


def _conditions(chosen: Mapping[str, str | None], *, org_id: str) -> list[sa.ColumnElement[bool]]:
    given = {name: value for name, value in chosen.items() if value is not None}
    conditions = [column == given[name] for name, column in _EQUAL.items() if name in given]
    if "kind" in given:
        conditions.append(Entry.kind == _known(given["kind"], KINDS, what="kind of entry"))
    if "unit" in given:
        conditions.append(Entry.unit == _known(given["unit"], UNITS, what="unit"))
    if "generation" in given:  # by way of its job, by which entries are found
        of_line = sa.select(Line.job_id).where(Line.org_id == org_id, Line.line_id == given["generation"])
        conditions += [Entry.line_id == given["generation"], _among(Entry.job_id, of_line)]
    if "session" in given:
        of_session = sa.select(Reservation.job_id).where(
            Reservation.org_id == org_id, Reservation.session_id == given["session"]
        )
        conditions.append(_among(Entry.job_id, of_session))
    if "since" in given:
        conditions.append(Entry.created_at >= moment(given["since"]))
    if "until" in given:
        conditions.append(Entry.created_at < moment(given["until"]))
    return conditions


def _among(column: Any, found: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Return that a column is among what is found: found first, as an array, and then looked up in its index."""
    return column == sa.any_(sa.func.array(found.scalar_subquery()))  # type: ignore[no-any-return]  # a column of any table


def _known(value: str, values: tuple[str, ...], *, what: str) -> str:
    if value not in values:
        raise BadRequest(f"There is no {what} {value!r}; there are {', '.join(values)}.")
    return value


def _item(row: sa.Row[Entry, str | None, str]) -> dict[str, Any]:
    entry: Entry = row.Entry
    moved = entry.amount if entry.version is not None else 0
    held = {"hold": -entry.amount, "refund": -entry.amount, "capture": entry.amount}.get(entry.kind, 0)
    return {
        "id": entry.transfer_id,  # not the row's number: that would tell how busy everybody else is
        "kind": entry.kind,
        "cause": _cause(entry, row.grant_kind),
        "unit": entry.unit,
        "amount": moved,
        "held": held,
        "available_before": None if entry.available_after is None else entry.available_after - moved,
        "available_after": entry.available_after,
        "version": entry.version,
        "job_id": entry.job_id,
        "session_id": row.session_id,
        "generation_id": entry.line_id,
        "grant_id": entry.grant_id,
        "sku": entry.sku,
        "product": entry.product,
        "reason": entry.reason,
        "actor": entry.actor,
        "created_at": rfc3339(entry.created_at),
    }


def _cause(entry: Entry, grant_kind: str | None) -> str:
    special = {"refund": entry.reason, "grant": grant_kind}.get(entry.kind)
    return special or _CAUSES.get(entry.kind, entry.kind)


def _position(session: Session, cursor: str, *, org_id: str) -> int:
    """Return the number of the entry a cursor names."""
    found = sa.select(Entry.id).where(Entry.org_id == org_id, Entry.transfer_id == cursor, _SHOWN)
    position = session.scalars(found).one_or_none()
    if position is None:
        raise no_such_cursor()
    return position
