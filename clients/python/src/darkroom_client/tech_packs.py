"""Technical packs: all a factory must know of a product, from photos of it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom_client import files
from darkroom_client.jobs import made, terms_of
from darkroom_client.models import Job, TechPack
from darkroom_client.transport import Transport, segment


class TechPacks:
    """``darkroom.tech_packs``. What needs an analysis that is not there raises `StepNotAllowed`, and costs nothing.

    Each step returns its job; ``terms`` are ``quote_id``, ``on_insufficient``, ``deadline_seconds`` and ``fresh``,
    as of `Jobs.create`.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, product_id: str) -> TechPack:
        """Return all there is of a product's pack, and what may be done next."""
        return TechPack.from_json(self._transport.send("GET", _of(product_id)).body)

    def export_pdf(self, product_id: str, to: str | os.PathLike[str]) -> Path:
        """Write the pack as a PDF to a file, which appears when it is whole, and return its path.

        Raises:
            NoAnswer: it broke off again and again.
        """
        return files.save(self._transport, f"{_of(product_id)}/export.pdf", to, accept="application/pdf", query={})

    def detect_category(
        self, product_id: str, *, wait_seconds: int = 0, idempotency_key: str | None = None, **terms: Any
    ) -> Job:
        """Have the product's category detected: free, and nothing else needs it."""
        return self._job(f"{_of(product_id)}/category", {}, terms, wait_seconds, idempotency_key)

    def analyze_base_views(
        self,
        product_id: str,
        *,
        revision_ids: Sequence[str] | None = None,
        category: str | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **terms: Any,
    ) -> Job:
        """Have up to five views analysed: the current ones unless given. 3 credits, less for what is known already."""
        body = {"revision_ids": revision_ids and list(revision_ids), "category": category}
        return self._job(f"{_of(product_id)}/base-views", body, terms, wait_seconds, idempotency_key)

    def generate_close_ups(
        self,
        product_id: str,
        *,
        count: int | None = None,
        category: str | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **terms: Any,
    ) -> Job:
        """Have 6 to 10 close-ups (8 unless given) planned, photographed and analysed: a new set. 3 credits."""
        body = {"count": count, "category": category}
        return self._job(f"{_of(product_id)}/close-ups", body, terms, wait_seconds, idempotency_key)

    def generate_sketches(
        self,
        product_id: str,
        *,
        category: str | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **terms: Any,
    ) -> Job:
        """Have front, back and side drawn, with callouts and measurements: a new set. 3 credits."""
        return self._job(f"{_of(product_id)}/sketches", {"category": category}, terms, wait_seconds, idempotency_key)

    def regenerate_part(
        self,
        product_id: str,
        image_id: str,
        *,
        prompt: str | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **terms: Any,
    ) -> Job:
        """Have the close-up or sketch of this image made again; the others of its set stay. 1 credit."""
        body = {"image_id": image_id, "prompt": prompt}
        return self._job(f"{_of(product_id)}/regenerations", body, terms, wait_seconds, idempotency_key)

    def edit(
        self,
        revision_id: str,
        *,
        field_path: str,
        prompt: str,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **terms: Any,
    ) -> Job:
        """Have one field of a view's analysis edited, such as ``materials.0.finish``, and no other. 1 credit."""
        body = {"field_path": field_path, "prompt": prompt}
        return self._job(f"{_view(revision_id)}/edits", body, terms, wait_seconds, idempotency_key)

    def regenerate_view(
        self,
        revision_id: str,
        *,
        prompt: str | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **terms: Any,
    ) -> Job:
        """Have a view made again: the product's next revision of it, with an analysis of its own. 1 credit."""
        return self._job(
            f"{_view(revision_id)}/regenerations", {"prompt": prompt}, terms, wait_seconds, idempotency_key
        )

    def _job(
        self,
        path: str,
        body: Mapping[str, Any],
        terms: Mapping[str, Any],
        wait_seconds: int,
        idempotency_key: str | None,
    ) -> Job:
        return made(
            self._transport,
            path,
            terms_of(**body, **terms),
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )


def _of(product_id: str) -> str:
    return f"/v1/tech-packs/{segment(product_id)}"


def _view(revision_id: str) -> str:
    return f"/v1/revisions/{segment(revision_id)}"
