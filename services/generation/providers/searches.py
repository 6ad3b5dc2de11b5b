"""Reading a vendor's list of what it was asked, newest first, back to a moment. It knows pages and times, no vendor."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.generation.providers.refusals import is_success
from services.generation.providers.wire import AnswerLost, NotSent, Wire

PAGES_MAX: Final = 20
_SECONDS: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time in which a request must have arrived, if it did."""

    since: datetime
    until: datetime

    def holds(self, moment: datetime) -> bool:
        """Return whether ``moment`` is in it."""
        return self.since <= moment <= self.until


def pages(wire: Wire, url: str, *, window: Window) -> list[dict[str, Any]] | None:
    """Return every entry of the list at ``url`` that was created in the window.

    A page is ``{results: [{id, created_at, …}], next}``; ``next`` is followed below the same address only, since the
    key goes with it. None where the list could not be read back to the window's beginning.
    """
    found: list[dict[str, Any]] = []
    address: str | None = url
    for _ in range(PAGES_MAX):
        page = _page(wire, address)
        if page is None:
            return None
        entries = [entry for entry in page.get("results") or () if isinstance(entry, dict)]
        moments = [_moment(entry) for entry in entries]
        if None in moments:
            return None
        found += [entry for entry, moment in zip(entries, moments, strict=True) if moment and window.holds(moment)]
        address = page.get("next")
        reached = any(moment < window.since for moment in moments if moment)
        if reached or not address:
            return found
        if not str(address).startswith((f"{url}?", f"{url}/")):
            return None
    return None


def _page(wire: Wire, address: str | None) -> dict[str, Any] | None:
    try:
        reply = wire.send("GET", str(address), seconds=_SECONDS)
    except (NotSent, AnswerLost):
        return None
    content = reply.json()
    return content if is_success(reply) and isinstance(content, dict) else None


def _moment(entry: dict[str, Any]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(entry.get("created_at")))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
