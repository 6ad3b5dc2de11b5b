"""Notifications as a nameko service: wiring only."""

from typing import Any

from services.notifications import log, recording
from shared.config import Settings
from shared.database import Batch
from shared.events import Event, logged
from shared.host import DatabaseProvider, SettingsProvider, every
from shared.messaging import subscribe
from shared.rpc import rpc


class Notifications:
    """Keeps each organization's log of events, and tells people and systems what happened."""

    name = "notifications"
    db = DatabaseProvider()
    settings: Settings = SettingsProvider()

    @rpc
    def events(self, *, org_id: str, **page: Any) -> dict[str, Any]:
        """Return an organization's events after a cursor."""
        with self.db.transaction(org_id=org_id) as session:
            return log.events(session, org_id=org_id, **page)

    @subscribe(logged())
    def on_event(self, events: Batch[Event]) -> None:
        """Append to the logs what organizations may see."""
        self.db.once(events, recording.record)

    @every(seconds=300)
    def sweep_events(self) -> None:
        """Delete events past their retention."""
        recording.sweep(self.db, days=self.settings.event_retention_days)
