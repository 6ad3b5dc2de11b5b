"""Signed addresses in place of storage keys, for everything that leaves the gateway with an image in it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from shared.links import link_expiry, sign_link


@dataclass(frozen=True, kw_only=True)
class Links:
    """Signs addresses that are good for an hour from ``now`` (Unix seconds), as one answer needs them."""

    secret: str
    files_url: str
    now: float

    def to(self, key: str) -> str:
        """Return the address under which the object ``key`` can be fetched."""
        return self._signed(key, disposition=None)

    def to_save(self, key: str, *, name: str) -> str:
        """Return the address under which the object ``key`` is saved as a file called ``name`` with its ending."""
        return self._signed(key, disposition=f'attachment; filename="{name}{PurePosixPath(key).suffix}"')

    def _signed(self, key: str, *, disposition: str | None) -> str:
        expires_at = link_expiry(self.now)
        query = sign_link(secret=self.secret, method="GET", key=key, expires_at=expires_at, disposition=disposition)
        return f"{self.files_url}/files/{quote(key)}?{query}"

    def to_send(self, *, key: str, content_type: str, max_bytes: int, expires_at: int) -> str:
        """Return the address to which one file can be sent by PUT until ``expires_at`` (Unix seconds)."""
        query = sign_link(
            secret=self.secret,
            method="PUT",
            key=key,
            expires_at=expires_at,
            max_bytes=max_bytes,
            content_type=content_type,
        )
        return f"{self.files_url}/files/{quote(key)}?{query}"

    def image(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """Return an image with addresses where it had keys."""
        shown = dict(image)
        for name, field in (("key", "url"), ("thumbnail_key", "thumbnail_url")):
            key = shown.pop(name, None)
            shown[field] = self.to(key) if key else None
        return shown

    def generation(self, generation: Mapping[str, Any]) -> dict[str, Any]:
        """Return a generation whose images have addresses."""
        return {**generation, "images": [self.image(image) for image in generation["images"]]}

    def staging_session(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Return a staging session whose photo and images have addresses."""
        shown = dict(session)
        original = shown.pop("original_key")
        attempts = {name: [self.generation(one) for one in shown[name]] for name in ("empty_rooms", "stagings")}
        return {**shown, **attempts, "original_url": self.to(original)}

    def job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job whose images have addresses."""
        return {**job, "generations": [self.generation(generation) for generation in job["generations"]]}

    def tech_pack(self, pack: Mapping[str, Any]) -> dict[str, Any]:
        """Return a technical pack whose views and images have addresses."""
        views = [{**view, "revision": self.image(view["revision"])} for view in pack["base_views"]]
        parts = {
            name: [{**one, "image": self.image(one["image"])} for one in pack[name]]
            for name in ("close_ups", "sketches")
        }
        return {**pack, **parts, "base_views": views, "product": self.product(pack["product"])}

    def product(self, product: Mapping[str, Any]) -> dict[str, Any]:
        """Return a product whose views have addresses."""
        shown = {**product, "views": [self.image(view) for view in product["views"]]}
        key = shown.pop("thumbnail_key")
        return {**shown, "thumbnail_url": self.to(key) if key else None}
