"""Headshots: a person's photo in one style or in several, their history, favorites and counts."""

from collections.abc import Iterator, Sequence
from typing import Any

from darkroom_client import pages
from darkroom_client.errors import NotFound
from darkroom_client.jobs import made, terms_of
from darkroom_client.models import Headshot, HeadshotStats, Job
from darkroom_client.transport import Transport, segment

_HEADSHOTS = "/v1/headshots"


class Headshots:
    """``darkroom.headshots``, made of uploads of the purpose `face`, which are deleted after 30 minutes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(  # noqa: PLR0913  each says which part of the job
        self,
        upload_id: str,
        *,
        style: str,
        aspect_ratio: str = "1:1",
        quality: str = "high",
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Have one headshot made; `workflows.list` has the styles. The further arguments are those of `Jobs.create`."""
        terms = terms_of(quote_id=quote_id, on_insufficient=on_insufficient, deadline_seconds=deadline_seconds)
        return made(
            self._transport,
            _HEADSHOTS,
            {"upload_id": upload_id, "style": style, "aspect_ratio": aspect_ratio, "quality": quality, **terms},
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )

    def create_batch(  # noqa: PLR0913  each says which part of the job
        self,
        upload_id: str,
        *,
        styles: Sequence[str],
        aspect_ratio: str = "1:1",
        quality: str = "high",
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Have one photo made in several styles, by one job; those that fail are given back."""
        terms = terms_of(quote_id=quote_id, on_insufficient=on_insufficient, deadline_seconds=deadline_seconds)
        framed = {"upload_id": upload_id, "styles": list(styles), "aspect_ratio": aspect_ratio, "quality": quality}
        return made(
            self._transport,
            f"{_HEADSHOTS}/batches",
            {**framed, **terms},
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )

    def get(self, headshot_id: str) -> Headshot:
        """Look a headshot up: its id is its generation's."""
        return Headshot.from_json(self._transport.send("GET", _of(headshot_id)).body)

    def list(
        self,
        *,
        favorite: bool | None = None,
        style: str | None = None,
        status: str | None = None,
        page_size: int = 50,
    ) -> Iterator[Headshot]:
        """Yield headshots, the newest first, failed ones included."""
        told = None if favorite is None else str(favorite).lower()
        query = {"favorite": told, "style": style, "status": status}
        return pages.each(self._transport, _HEADSHOTS, model=Headshot, page_size=page_size, query=query)

    def favorite(self, headshot_id: str) -> Headshot:
        """Mark a headshot as a favorite."""
        return Headshot.from_json(self._transport.send("PUT", f"{_of(headshot_id)}/favorite").body)

    def unfavorite(self, headshot_id: str) -> Headshot:
        """Take the mark off again."""
        return Headshot.from_json(self._transport.send("DELETE", f"{_of(headshot_id)}/favorite").body)

    def delete(self, headshot_id: str) -> None:
        """Delete a headshot and its bytes for good."""
        try:
            self._transport.send("DELETE", _of(headshot_id))
        except NotFound as error:
            if error.attempts == 1:
                raise
            # An earlier try deleted it, and its answer was lost.

    def stats(self) -> HeadshotStats:
        """Count what was made, of which styles, and what it cost."""
        return HeadshotStats.from_json(self._transport.send("GET", f"{_HEADSHOTS}/stats").body)

    def track(
        self,
        name: str,
        *,
        headshot_id: str | None = None,
        style: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Tell that somebody did what only you can see.

        ``name`` is `style_selected` (with ``style``), `headshot_downloaded` or `user_shared` (with ``headshot_id``), or
        `history_viewed`.
        """
        body: dict[str, Any] = {"name": name, "headshot_id": headshot_id, "style": style}
        given = {key: value for key, value in body.items() if value is not None}
        self._transport.send("POST", "/v1/analytics/events", body=given, idempotency_key=idempotency_key)


def _of(headshot_id: str) -> str:
    return f"{_HEADSHOTS}/{segment(headshot_id)}"
