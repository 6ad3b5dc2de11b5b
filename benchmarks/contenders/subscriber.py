"""Ours: `@subscribe` and `once` with its inbox, as every handler of state in the product is written."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.hosting import Host
from shared.database import Batch
from shared.events import CreditCaptured, Event
from shared.host import DatabaseProvider
from shared.messaging import subscribe

_CAPTURE = sa.text(
    "UPDATE lines SET state = 'captured', times = times + 1 WHERE line_id = ANY(CAST(:line_ids AS text[]))"
)


class Credits:
    """Updates one row for each event."""

    name = "credits"
    db = DatabaseProvider()

    @subscribe(CreditCaptured)
    def on_credit_captured(self, events: Batch[CreditCaptured]) -> None:
        """Mark the lines of these events."""
        self.db.once(events, capture)


def capture(session: Session, events: Sequence[CreditCaptured]) -> list[Event]:
    """Mark the lines of ``events`` as captured."""
    session.execute(_CAPTURE, {"line_ids": [item.line_id for item in events]})
    return []


if __name__ == "__main__":
    host = Host(Credits)
    host.talk.say("ready")
    host.talk.wait()
    host.start()
    host.serve_until_told()
