"""Many rows with one statement: a job may have 4,000 of each kind."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.orm import Session

from services.generation.models import Base


def insert_rows(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert ``rows``, all with the same columns, as one statement; what they have in common is sent once."""
    if rows:
        session.execute(_insert(model, rows))


def insert_new_rows(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Insert those of ``rows`` that are not there yet, as `insert_rows`, in the order given; return their ids."""
    if not rows:
        return set()
    statement = _insert(model, rows).on_conflict_do_nothing().returning(sa.column("id", sa.Text))
    return set(session.execute(statement).scalars())


def _insert(model: type[Base], rows: Sequence[Mapping[str, Any]]) -> Any:
    first = rows[0]
    same = {name: value for name, value in first.items() if all(row[name] == value for row in rows)}
    others = [{name: value for name, value in row.items() if name not in same} for row in rows]
    nothing: sa.ColumnElement[Any] = sa.literal_column(f"CAST(NULL AS {model.__tablename__})")
    written = sa.func.jsonb_populate_recordset(sa.func.jsonb_populate_record(nothing, _json(same)), _json(others))
    columns: sa.Select[*tuple[Any, ...]] = sa.select(*(sa.column(name) for name in first)).select_from(
        written.alias("written")
    )
    return insert(model).from_select(list(first), columns)


def one_of(column: Any, values: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the condition that ``column`` is one of ``values``, with one parameter however many they are."""
    condition: sa.ColumnElement[bool] = column == sa.any_(sa.literal(list(values), ARRAY(sa.Text)))
    return condition


def amounts_by_id(amounts: Mapping[str, int]) -> sa.TableValuedAlias:
    """Return ``amounts`` as a table ``held (id, amount)`` to join with."""
    ids, numbers = sa.literal(list(amounts), ARRAY(sa.Text)), sa.literal(list(amounts.values()), ARRAY(sa.Integer))
    columns = (sa.column("id", sa.Text), sa.column("amount", sa.Integer))
    return sa.func.unnest(ids, numbers).table_valued(*columns).render_derived(name="held")


def _json(value: Any) -> sa.Cast[Any]:
    return sa.cast(sa.literal(json.dumps(value, default=datetime.isoformat), sa.Text), JSONB)
