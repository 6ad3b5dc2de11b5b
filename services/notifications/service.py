"""Notifications as a nameko service: wiring only. Present, ready and measured; what it will tell comes later."""

from shared.host import DatabaseProvider


class Notifications:
    """Will keep each organization's log of events and tell people and systems what happened."""

    name = "notifications"
    db = DatabaseProvider()
