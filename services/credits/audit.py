"""The proof of the ledger: everything cached or promised is recomputed from the rows, in one statement.

One statement sees one moment, so that the audit may run beside any number of movements. It names what is wrong and
repairs nothing. Every violation is ``{invariant, subject, expected, found}``; `invariants` has what is checked.
"""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.credits.invariants import CHECKS, FACTS
from shared.times import rfc3339

SHOWN = 1000

_FACTS = ", ".join(f"{name} AS ({query})" for name, query in FACTS.items())
_FOUND = " UNION ALL ".join(
    f"SELECT {place} AS place, '{invariant}' AS invariant, c.* FROM ({check}) AS c (subject, expected, found)"
    for place, (invariant, check) in enumerate(CHECKS.items())
)
_AUDIT = sa.text(f"""
WITH {_FACTS}, found AS ({_FOUND})
SELECT now() AS checked_at, (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM entries) AS entries,
    (SELECT count(*) FROM entry_seals) AS sealed, (SELECT encode(hash, 'hex') FROM head) AS head,
    (SELECT count(*) FROM unsealed) AS unsealed, f.invariant, f.subject, f.expected::bigint, f.found::bigint
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
        ``{checked_at, accounts, entries, violations: [{invariant, subject, expected, found}], chain: {sealed, head,
        unsealed}}``; ``subject`` is the organization and unit, transfer, grant, or job and line that is wrong. The
        first 1000 are listed. ``head`` is the last hash of the chain in hex, None before the first seal.
    """
    rows = session.execute(_AUDIT, {"grace": grace, "shown": SHOWN}).all()
    return {
        "checked_at": rfc3339(rows[0].checked_at),
        "accounts": rows[0].accounts,
        "entries": rows[0].entries,
        "violations": [
            {"invariant": row.invariant, "subject": row.subject, "expected": row.expected, "found": row.found}
            for row in rows
            if row.invariant is not None
        ],
        "chain": {"sealed": rows[0].sealed, "head": rows[0].head, "unsealed": rows[0].unsealed},
    }
