"""Products, and the pictures that show them from their sides."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from darkroom_client import pages
from darkroom_client.models import Product, Revision
from darkroom_client.transport import Transport, segment

Scalar = str | float | bool | None
# The server makes a picture small within 30 s.
_SERVERS_SECONDS = 15.0


class Products:
    """``darkroom.products``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        sku: str | None = None,
        category: str | None = None,
        room_types: Sequence[str] = (),
        description: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        upload_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Product:
        """Make a product.

        Args:
            name: what people call it.
            sku: its own in the organization, and for good.
            category: such as ``chairs``.
            room_types: slugs, such as ``living_room``.
            description: what else there is to say.
            metadata: texts, numbers, true, false, null by names of yours: at most 50.
            upload_id: a picture of its front.
            idempotency_key: give one of your own to get the same product again after a crash of yours.

        Raises:
            Conflict: another product has the SKU (`sku_taken`): ``extra["product_id"]``.
        """
        body = _said(name, category, room_types, description, metadata, upload_id)
        answer = self._transport.send(
            "POST",
            "/v1/products",
            body=body if sku is None else {**body, "sku": sku},
            idempotency_key=idempotency_key,
            more_seconds=_SERVERS_SECONDS,
        )
        return Product.from_json(answer.body)

    def put(
        self,
        sku: str,
        name: str,
        *,
        category: str | None = None,
        room_types: Sequence[str] = (),
        description: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        upload_id: str | None = None,
    ) -> Product:
        """Make the product with this SKU, or replace what is said of it: for keeping another system in step.

        What is the same as before changes nothing; a picture that is shown already is not added again.
        """
        path = f"/v1/products/by-sku/{segment(sku)}"
        body = _said(name, category, room_types, description, metadata, upload_id)
        answer = self._transport.send("PUT", path, body=body, more_seconds=_SERVERS_SECONDS)
        return Product.from_json(answer.body)

    def get(self, product_id: str) -> Product:
        """Look a product up, with its current views."""
        return Product.from_json(self._transport.send("GET", _path(product_id)).body)

    def list(
        self,
        *,
        category: str | None = None,
        room_type: str | None = None,
        sku: str | None = None,
        page_size: int = 50,
    ) -> Iterator[Product]:
        """Yield products, the newest first: those of a category, for a type of room, with a SKU."""
        query = {"category": category, "room_type": room_type, "sku": sku}
        return pages.each(self._transport, "/v1/products", model=Product, page_size=page_size, query=query)

    def update(self, product_id: str, *, version: int | None = None, **changes: Any) -> Product:
        """Change ``name``, ``category``, ``room_types``, ``description`` or ``metadata``; what is left out stays.

        Args:
            product_id: which.
            version: only if it still is in this one, as you saw it.
            changes: the new values; None empties category and description.

        Raises:
            Conflict: it is in another version (`precondition_failed`): ``extra["current"]`` is how it is now.
        """
        answer = self._transport.send("PATCH", _path(product_id), body=changes, headers=_if_in(version))
        return Product.from_json(answer.body)

    def delete(self, product_id: str, *, version: int | None = None) -> None:
        """Delete a product, if it is still in ``version`` where one is given; images that were made of it stay."""
        self._transport.send("DELETE", _path(product_id), headers=_if_in(version))

    def add_view(
        self, product_id: str, *, view_type: str, upload_id: str, idempotency_key: str | None = None
    ) -> Revision:
        """Add an upload as the next revision, and the current one, of a view.

        ``view_type`` is one of `front back left right top bottom detail`.
        """
        answer = self._transport.send(
            "POST",
            f"{_path(product_id)}/views",
            body={"view_type": view_type, "upload_id": upload_id},
            idempotency_key=idempotency_key,
            more_seconds=_SERVERS_SECONDS,
        )
        return Revision.from_json(answer.body)

    def views(self, product_id: str, *, view_type: str | None = None, page_size: int = 50) -> Iterator[Revision]:
        """Yield the revisions of a product's views, or of one view, the newest first."""
        path, query = f"{_path(product_id)}/views", {"view_type": view_type}
        return pages.each(self._transport, path, model=Revision, page_size=page_size, query=query)


def _path(product_id: str) -> str:
    return f"/v1/products/{segment(product_id)}"


def _if_in(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _said(
    name: str,
    category: str | None,
    room_types: Sequence[str],
    description: str | None,
    metadata: Mapping[str, Scalar] | None,
    upload_id: str | None,
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": name,
        "category": category,
        "room_types": [*room_types],
        "description": description,
        "metadata": dict(metadata or {}),
    }
    return said if upload_id is None else {**said, "upload_id": upload_id}
