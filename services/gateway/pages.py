"""Lists of rows cut into pages by id: the one way in which every list of the gateway's own tables is read."""

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")


def cut(
    session: Session,
    statement: sa.Select[Row],
    *,
    by: InstrumentedAttribute[str],
    limit: int,
    after: str | None,
    show: Callable[[Row], dict[str, Any]],
    oldest_first: bool = False,
) -> dict[str, Any]:
    """Return ``{data, has_more, next_cursor}``: a page of what ``statement`` selects, each row as ``show`` has it.

    Args:
        session: where they are read.
        statement: selects whole rows of one table.
        by: the table's id, whose order is that of time.
        limit: how many at most.
        after: the id at the end of the page before; None for the first page.
        show: makes of a row what its reader may see.
        oldest_first: in the order in which they were made, instead of the newest first.
    """
    if after:
        statement = statement.where(by > after if oldest_first else by < after)
    rows = list(session.scalars(statement.order_by(by if oldest_first else by.desc()).limit(limit + 1)))
    shown, more = rows[:limit], len(rows) > limit
    return {
        "data": [show(row) for row in shown],
        "has_more": more,
        "next_cursor": getattr(shown[-1], by.key) if more else None,
    }
