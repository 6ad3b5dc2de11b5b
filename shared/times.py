"""Times as texts: RFC 3339, in UTC, wherever one leaves the system."""

from datetime import UTC, datetime


def rfc3339(moment: datetime, *, precision: str = "milliseconds") -> str:
    """Write a time that knows its zone; ``precision`` as `datetime.isoformat` has it."""
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
