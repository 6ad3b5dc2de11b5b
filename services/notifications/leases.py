"""Rows that wait to be worked off: claimed for as long as a lease lasts, then settled by whoever still has the claim.

A table of such rows has ``status``, ``attempt``, ``due_at``, ``lease_until``, ``fence`` and ``failure``. Leases use the
database's time. What the rows are about is not known here.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

# With a moment that is one for the whole statement: by one that changes from row to row no index says where to begin.
FREE: Final = "(lease_until IS NULL OR lease_until <= statement_timestamp())"


class Leases:
    """The claims on the rows of one table.

    Args:
        table: its name.
        columns: what is to be known of a claimed row, besides ``id``, ``attempt`` and ``fence``.
        order: who is served first.
        condition: what must be true of a row besides.
        ends: whether a row says in ``ended_at`` since when it is not pending any more.
    """

    def __init__(
        self, table: str, *, columns: Sequence[str], order: str = "due_at", condition: str = "true", ends: bool = True
    ) -> None:
        claimed = ", ".join(f"rows.{name}" for name in ("id", "attempt", "fence", *columns))
        self._claim = sa.text(f"""
WITH due AS (
    SELECT id FROM {table}
    WHERE status = 'pending' AND due_at <= statement_timestamp() AND {FREE} AND {condition}
    ORDER BY {order} LIMIT :free FOR UPDATE SKIP LOCKED
)
UPDATE {table} rows
SET attempt = rows.attempt + 1, fence = rows.fence + 1,
    lease_until = clock_timestamp() + make_interval(secs => :lease)
FROM due WHERE rows.id = due.id
RETURNING {claimed}
""")
        ended = ", ended_at = CASE WHEN :status = 'pending' THEN NULL ELSE now() END" if ends else ""
        self._settle = sa.text(f"""
UPDATE {table}
SET status = :status, failure = :failure, lease_until = NULL, attempt = attempt - :unused,
    due_at = clock_timestamp() + make_interval(secs => :seconds){ended}
WHERE id = :id AND fence = :fence AND status = 'pending'
RETURNING id
""")

    def claim(self, session: Session, *, free: int, seconds: float) -> list[dict[str, Any]]:
        """Claim at most ``free`` rows that are due, for ``seconds``."""
        return [dict(row) for row in session.execute(self._claim, {"free": free, "lease": seconds}).mappings()]

    def settle(
        self,
        session: Session,
        *,
        id: int | str,  # noqa: A002  the column's name
        fence: int,
        status: str,
        failure: str | None = None,
        seconds: float = 0.0,
        unused: bool = False,
    ) -> bool:
        """Write what became of a claimed row; return False where the claim was lost meanwhile, and nothing is written.

        ``pending`` is due again in ``seconds``; with ``unused`` it has as many attempts left as before the claim.
        """
        values = {
            "id": id,
            "fence": fence,
            "status": status,
            "failure": failure,
            "seconds": seconds,
            "unused": int(unused),
        }
        return session.scalar(self._settle, values) is not None
