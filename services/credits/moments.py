"""Times as they come in over RPC."""

from datetime import datetime

from shared.problems import BadRequest


def moment(text: str) -> datetime:
    """Read an RFC 3339 time.

    Raises:
        BadRequest: it is none, or does not say its time zone.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{text!r} is no RFC 3339 time, such as 2031-05-01T12:00:00Z.") from error
    if found.tzinfo is None:
        raise BadRequest(f"{text!r} does not say its time zone; end it with Z for UTC.")
    return found
