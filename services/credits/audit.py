"""The proof of the ledger: everything cached or promised is recomputed from the rows, in one statement.

One statement sees one moment, so that the audit may run beside any number of movements. It names what is wrong and
repairs nothing. Every violation is ``{invariant, subject, expected, found}``.
"""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits import metrics

SHOWN = 1000

_CHECKS = {
    # Nothing appears and nothing vanishes: each transfer takes from one account what it gives to another.
    "units_sum_to_zero": """
        SELECT unit, 0, sum(amount) FROM entries GROUP BY unit HAVING sum(amount) <> 0
    """,
    "transfer_balances": """
        SELECT transfer_id, 0, sum(amount) FROM entries GROUP BY transfer_id, unit HAVING sum(amount) <> 0
    """,
    "transfer_has_two_legs": """
        SELECT transfer_id, 2, count(*) FROM entries GROUP BY transfer_id HAVING count(*) <> 2
    """,
    "entry_belongs_to_its_account": """
        SELECT e.transfer_id, e.account_id, coalesce(a.id, 0)
        FROM entries e
        LEFT JOIN accounts a ON a.id = e.account_id AND a.unit = e.unit AND a.org_id IS NOT DISTINCT FROM e.org_id
        WHERE a.id IS NULL
    """,
    # A wallet is what its entries say, at every version it ever had.
    "wallet_equals_its_entries": """
        SELECT w.name, coalesce(e.total, 0), w.available
        FROM wallet w LEFT JOIN moved e ON e.account_id = w.id WHERE w.available <> coalesce(e.total, 0)
    """,
    "version_counts_the_entries": """
        SELECT w.name, coalesce(e.changes, 0), w.version
        FROM wallet w LEFT JOIN moved e ON e.account_id = w.id WHERE w.version <> coalesce(e.changes, 0)
    """,
    "available_follows_from_the_entry_before": """
        SELECT transfer_id, available_before + amount, available_after
        FROM history WHERE available_after <> available_before + amount
    """,
    "versions_have_no_gap": """
        SELECT transfer_id, version_before + 1, version FROM history WHERE version <> version_before + 1
    """,
    "never_below_zero": """
        SELECT name, 0, available FROM wallet WHERE available < 0
        UNION ALL SELECT transfer_id, 0, available_after FROM history WHERE available_after < 0
    """,
    # What is held belongs to open lines, to the last credit.
    "held_account_equals_open_lines": """
        SELECT h.name, coalesce(o.amount, 0), coalesce(e.total, 0)
        FROM holder h LEFT JOIN moved e ON e.account_id = h.id LEFT JOIN open_lines o USING (org_id, unit)
        WHERE coalesce(e.total, 0) <> coalesce(o.amount, 0)
    """,
    "held_equals_open_lines": """
        SELECT h.name, coalesce(o.amount, 0), w.held_total - h.captured_total
        FROM holder h JOIN wallet w USING (org_id, unit) LEFT JOIN open_lines o USING (org_id, unit)
        WHERE w.held_total - h.captured_total <> coalesce(o.amount, 0)
    """,
    # Each line ends once: captured and refunded make up what was held, in the line as in the entries.
    "line_was_held": """
        SELECT name, amount, held FROM line WHERE held <> amount
    """,
    "line_was_captured": """
        SELECT name, captured_amount, captured FROM line WHERE captured <> captured_amount
    """,
    "line_was_refunded": """
        SELECT name, refunded_amount, refunded FROM line WHERE refunded <> refunded_amount
    """,
    "line_has_the_organization_of_its_job": """
        SELECT l.job_id || '/' || l.line_id, 1, 0
        FROM lines l LEFT JOIN reservations r USING (job_id) WHERE l.org_id IS DISTINCT FROM r.org_id
    """,
    "line_ends_with_its_job": """
        SELECT l.name, 0, floor(extract(epoch FROM now() - r.deadline_at))
        FROM line l LEFT JOIN reservations r USING (job_id)
        WHERE l.status = 'held' AND coalesce(r.deadline_at, '-infinity') < now() - CAST(:grace AS interval)
    """,
    "grant_was_paid_once": """
        SELECT coalesce(g.id, e.grant_id), coalesce(g.amount, 0), coalesce(e.amount, 0)
        FROM grants g
        FULL JOIN (
            SELECT grant_id, sum(amount) AS amount FROM entries
            WHERE kind = 'grant' AND version IS NOT NULL GROUP BY grant_id
        ) e ON e.grant_id = g.id
        WHERE coalesce(g.amount, 0) <> coalesce(e.amount, 0)
    """,
}

_FOUND = " UNION ALL ".join(
    f"SELECT {place} AS place, '{invariant}' AS invariant, c.* FROM ({check}) AS c (subject, expected, found)"
    for place, (invariant, check) in enumerate(_CHECKS.items())
)
_AUDIT = sa.text(f"""
WITH wallet AS (
    SELECT *, org_id || '/' || unit AS name FROM accounts WHERE kind = 'wallet'
), holder AS (
    SELECT *, org_id || '/' || unit AS name FROM accounts WHERE kind = 'held'
), moved AS (
    SELECT account_id, sum(amount) AS total, count(*) AS changes FROM entries GROUP BY account_id
), history AS (
    SELECT transfer_id, amount, available_after, version,
        lag(available_after, 1, 0::bigint) OVER in_order AS available_before,
        lag(version, 1, 0::bigint) OVER in_order AS version_before
    FROM entries WHERE version IS NOT NULL
    WINDOW in_order AS (PARTITION BY account_id ORDER BY version)
), open_lines AS (
    SELECT org_id, unit, sum(amount) AS amount FROM lines WHERE status = 'held' GROUP BY org_id, unit
), line AS (
    SELECT job_id, l.status, job_id || '/' || line_id AS name, coalesce(l.amount, 0) AS amount,
        coalesce(l.captured_amount, 0) AS captured_amount,
        CASE WHEN l.status <> 'held' THEN l.amount - l.captured_amount ELSE 0 END AS refunded_amount,
        coalesce(e.held, 0) AS held, coalesce(e.captured, 0) AS captured, coalesce(e.refunded, 0) AS refunded
    FROM lines l
    FULL JOIN (
        SELECT job_id, line_id, sum(amount) FILTER (WHERE kind = 'hold') AS held,
            sum(amount) FILTER (WHERE kind = 'capture') AS captured,
            sum(amount) FILTER (WHERE kind = 'refund') AS refunded
        FROM entries WHERE line_id IS NOT NULL AND amount > 0 GROUP BY job_id, line_id
    ) e USING (job_id, line_id)
), found AS ({_FOUND})
SELECT now() AS checked_at, (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM entries) AS entries,
    (SELECT count(*) FROM found) AS violations, f.invariant, f.subject, f.expected::bigint, f.found::bigint
FROM (SELECT) AS always
LEFT JOIN (SELECT * FROM found ORDER BY place, subject LIMIT :shown) f ON true
ORDER BY f.place, f.subject
""")


def run(session: Session, *, grace: timedelta) -> dict[str, Any]:
    """Check every invariant of the ledger.

    Args:
        session: one that sees all organizations; the time it may take is the transaction's.
        grace: how long after its job's deadline a line may stay open.

    Returns:
        ``{checked_at, accounts, entries, violations: [{invariant, subject, expected, found}]}``; ``subject`` is the
        organization and unit, transfer, or job and line that is wrong. The first 1000 are listed.
    """
    rows = session.execute(_AUDIT, {"grace": grace, "shown": SHOWN}).all()
    metrics.invariant_violations.set(rows[0].violations)
    return {
        "checked_at": rows[0].checked_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "accounts": rows[0].accounts,
        "entries": rows[0].entries,
        "violations": [
            {"invariant": row.invariant, "subject": row.subject, "expected": row.expected, "found": row.found}
            for row in rows
            if row.invariant is not None
        ],
    }
