"""Credits: the balance, where it went, and what things cost."""

from collections.abc import Iterator
from datetime import date, datetime

from darkroom_client import pages
from darkroom_client.models import Entry, Plan, Pricing, Usage, Wallet
from darkroom_client.transport import Transport

Moment = datetime | date | str


class Credits:
    """``darkroom.credits``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def balance(self) -> Wallet:
        """Return what there is, what is held, the plan and its allowance."""
        return Wallet.from_json(self._transport.send("GET", "/v1/credits").body)

    def entries(  # noqa: PLR0913  an argument for each filter
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        product: str | None = None,
        job_id: str | None = None,
        generation_id: str | None = None,
        image_id: str | None = None,
        session_id: str | None = None,
        kind: str | None = None,
        unit: str | None = None,
        page_size: int = 50,
    ) -> Iterator[Entry]:
        """Yield the history, the newest first, from ``since`` on and before ``until``, or with that day."""
        query = {
            "since": _written(since),
            "until": _written(until),
            "product": product,
            "job": job_id,
            "generation": generation_id,
            "image": image_id,
            "session": session_id,
            "kind": kind,
            "unit": unit,
        }
        return pages.each(self._transport, "/v1/credits/entries", model=Entry, page_size=page_size, query=query)

    def usage(self, *, since: Moment | None = None, until: Moment | None = None) -> Usage:
        """Return what was made and spent, by day and workflow."""
        query = {"since": _written(since), "until": _written(until)}
        return Usage.from_json(self._transport.send("GET", "/v1/usage", query=query).body)

    def plans(self) -> list[Plan]:
        """Return the plans there are."""
        return pages.items(self._transport.send("GET", "/v1/plans").body, model=Plan)

    def change_plan(self, plan: str) -> Wallet:
        """Put the organization on another plan and return its balance."""
        return Wallet.from_json(self._transport.send("PUT", "/v1/plan", body={"plan": plan}).body)

    def pricing(self) -> Pricing:
        """Return the price book."""
        return Pricing.from_json(self._transport.send("GET", "/v1/pricing").body)


def _written(moment: Moment | None) -> str | None:
    """Return a time in RFC 3339.

    Raises:
        ValueError: it has no time zone, and so is no moment.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("give a time with its time zone, as datetime.now(timezone.utc) has one")
        return moment.isoformat()
    return moment.isoformat() if isinstance(moment, date) else moment
