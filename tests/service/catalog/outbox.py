"""Reading what a service has decided to tell."""

import sqlalchemy as sa

from shared import events


def told(db, *types):
    """Return the events in the outbox, oldest first; only those of ``types`` where any is given."""
    with db.transaction() as session:
        bodies = session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars().all()
    found = [events.decode(body.encode()) for body in bodies]
    return [event for event in found if not types or isinstance(event, types)]
