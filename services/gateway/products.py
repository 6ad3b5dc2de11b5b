"""What the routes of products have in common: pictures made ready to be shown, and versions as clients saw them."""

from collections.abc import Mapping
from typing import Any

from services.gateway import uploads
from shared.http import Request
from shared.http_conditions import tags_in
from shared.http_schemas import error_at, refusal
from shared.ids import is_id
from shared.problems import NotFound

_ANY = "*"


def picture(service: Any, request: Request, *, upload_id: str, revision_id: str, **view: str) -> dict[str, Any]:
    """Return an upload as the catalog takes it for a revision of a view, its thumbnail stored.

    Raises:
        NotFound: there is no such upload.
        BadRequest: it is to be deleted by itself: so small as it is, a thumbnail would outlive it.
        Unavailable: too many pictures of the organization wait for their turn already.
    """
    asset: Mapping[str, Any] = service.catalog.asset(**request.owner, asset_id=upload_id)
    if asset["delete_after"] is not None:
        detail = "this upload is deleted by itself; send the picture again with purpose=product"
        raise refusal([error_at("/upload_id", "invalid", detail)])
    key = asset["thumbnail_key"] or uploads.store_thumbnail(
        service.store, service.image_line, asset, org_id=request.org_id
    )
    return {"revision_id": revision_id, "upload_id": upload_id, "thumbnail_key": key, **view}


def seen_versions(request: Request) -> list[int] | None:
    """Return the versions that If-Match names; None where any will do.

    A tag without a version is of no product, so that it matches none.
    """
    wanted = tags_in(request.headers.get("If-Match"), weak=False)
    if "If-Match" not in request.headers or _ANY in wanted:
        return None
    versions = [tag.partition("-")[0] for tag in wanted]
    return [int(version) for version in versions if version.isascii() and version.isdigit() and len(version) <= 9]  # noqa: PLR2004  digits


def first_revision_id(product_id: str) -> str:
    """Return the id of the revision a product is made with: a request that is sent again makes the same one."""
    return "rev_" + product_id.partition("_")[2]


def require_id(product_id: str) -> None:
    """Refuse what cannot be the id of a product.

    Raises:
        NotFound: it is none.
    """
    if not is_id(product_id, prefix="prd"):
        raise NotFound("There is no such product.")
