"""What PostgreSQL had to look at for an answer: the rows each step of its plans gave or threw away. Not the time."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import Database

_LOOKED_AT = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")


def rows_read(db: Database, act: Callable[[Session], object], *, org_id: str | None = None) -> float:
    """Return how many rows all that ``act`` asks in one transaction looks at. Each statement is run once more."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:  # noqa: FBT001  SQLAlchemy's signature
        asked.append((statement, values))

    with db.transaction(org_id=org_id) as session:
        sa.event.listen(db.engine, "before_cursor_execute", note)
        try:
            act(session)
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", note)
        return sum(_cost(session, statement, values) for statement, values in asked)


def _cost(session: Session, statement: str, values: Any) -> float:
    connection = session.connection().connection.cursor()
    connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
    (found,) = connection.fetchone()
    (plan,) = json.loads(found) if isinstance(found, str) else found
    return looked_at(plan["Plan"])


def looked_at(plan: Mapping[str, Any]) -> float:
    """Return how many rows a plan, as EXPLAIN ANALYZE gives it, has gone through."""
    loops = plan.get("Actual Loops", 1)
    return sum(plan.get(name, 0) for name in _LOOKED_AT) * loops + sum(map(looked_at, plan.get("Plans", ())))
