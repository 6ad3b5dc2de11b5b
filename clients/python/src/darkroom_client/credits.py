"""Credits: the balance, where it went, and what things cost."""

import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

from darkroom_client import files, pages
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
        query = _chosen(
            since=since,
            until=until,
            product=product,
            job=job_id,
            generation=generation_id,
            image=image_id,
            session=session_id,
            kind=kind,
            unit=unit,
        )
        return pages.each(self._transport, "/v1/credits/entries", model=Entry, page_size=page_size, query=query)

    def export(  # noqa: PLR0913  an argument for each filter
        self,
        to: str | os.PathLike[str],
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
    ) -> Path:
        """Write the history to a CSV file, which appears when it is whole, and return its path.

        Raises:
            NoAnswer: it broke off again and again.
        """
        query = _chosen(
            since=since,
            until=until,
            product=product,
            job=job_id,
            generation=generation_id,
            image=image_id,
            session=session_id,
            kind=kind,
            unit=unit,
        )
        return files.save(self._transport, "/v1/credits/entries.csv", to, accept="text/csv", query=query)

    def usage(self, *, since: Moment | None = None, until: Moment | None = None) -> Usage:
        """Return what was made and spent, by day and workflow."""
        query = {"since": written(since), "until": written(until)}
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


def _chosen(*, since: Moment | None, until: Moment | None, **chosen: str | None) -> dict[str, Any]:
    return {"since": written(since), "until": written(until), **chosen}


def written(moment: Moment | None) -> str | None:
    """Return a time in RFC 3339.

    Raises:
        ValueError: it has no time zone, and so is no moment.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("give a time with its time zone, as datetime.now(timezone.utc) has one")
        return moment.isoformat()
    return moment.isoformat() if isinstance(moment, date) else moment
