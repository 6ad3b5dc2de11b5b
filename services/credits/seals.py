"""The sealer: binds the entries of the ledger together by a chain of hashes, after they were committed.

Whoever alters, removes or reorders a sealed entry breaks the chain, and whoever rebuilds the chain contradicts the
heads that were logged. Never part of a movement of money, which would have to wait for the one before it.
"""

from datetime import timedelta

import sqlalchemy as sa
import structlog

from shared.database import Database

log = structlog.get_logger(__name__)

AT_ONCE = 5000
# Transactions that write entries are over within seconds (shared.database sees to it): this is far on the safe side.
LONGEST_TRANSACTION = timedelta(minutes=10)

_SEAL = sa.text("SELECT * FROM seal_entries(:most, CAST(:longest AS interval))")


def seal_entries(db: Database, *, at_once: int = AT_ONCE, longest_transaction: timedelta = LONGEST_TRANSACTION) -> int:
    """Append every entry that has no seal to the hash chain, ``at_once`` in a transaction; return how many there were.

    Any number of replicas may run it: where another one is at work, it leaves the work to that one.
    """
    sealed, more = 0, True
    while more:
        with db.transaction() as session:
            row = session.execute(_SEAL, {"most": at_once, "longest": longest_transaction}).one_or_none()
        if row is None:
            break
        log.info(
            "ledger_sealed", number=row.number, entries=row.entries, position=row.last_position, head=row.hash.hex()
        )
        sealed, more = sealed + row.entries, row.more
    return sealed
