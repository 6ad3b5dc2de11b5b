"""What PostgreSQL had to look at for an answer: the rows each step of its plans gave or threw away. Not the time."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import Database

_LOOKED_AT = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")


def rows_read(db: Database, act: Callable[[Session], object], *, org_id: str | None = None) -> float:
    """Return how many rows are looked at for all that ``act`` asks in one transaction."""
    costs: list[float] = []

    def look(_connection: Any, cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:  # noqa: FBT001  SQLAlchemy's signature
        if statement.startswith("NOTIFY"):
            return
        cursor.execute("SAVEPOINT before")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        (found,) = cursor.fetchone()
        cursor.execute("ROLLBACK TO before")
        (plan,) = json.loads(found) if isinstance(found, str) else found
        costs.append(looked_at(plan["Plan"]))

    with db.transaction(org_id=org_id) as session:
        sa.event.listen(db.engine, "before_cursor_execute", look)
        try:
            act(session)
        finally:
            sa.event.remove(db.engine, "before_cursor_execute", look)
    return sum(costs)


def looked_at(plan: Mapping[str, Any]) -> float:
    """Return how many rows a plan, as EXPLAIN ANALYZE gives it, has gone through."""
    loops = plan.get("Actual Loops", 1)
    return sum(plan.get(name, 0) for name in _LOOKED_AT) * loops + sum(map(looked_at, plan.get("Plans", ())))
