"""An image beside the upload it was made of, where that is there still, and may be shown."""

from typing import Any

from services.gateway.links import Links
from shared.http import Request
from shared.problems import ConsentRequired, NotFound, SourceGone

_SHOWN = ("width", "height", "content_type", "consent")


def comparison(service: Any, request: Request, links: Links, *, image_id: str) -> dict[str, Any]:
    """Return ``{before, after}`` of an image.

    Raises:
        NotFound: there is no such image, or it was made of no upload.
        SourceGone: the upload is deleted.
        ConsentRequired: it is a face that is only there until its 30 minutes are over.
    """
    found = service.generation.image_and_original(**request.owner, image_id=image_id)
    original = found["original"]
    if not original["available"]:
        raise _gone(original)
    try:
        asset = service.catalog.asset(**request.owner, asset_id=original["upload_id"])
    except NotFound as error:
        raise _gone(original) from error  # generation has not heard of it yet
    if asset["purpose"] == "face" and not asset["consent"]:
        raise ConsentRequired
    before = {"upload_id": asset["id"], "url": links.to(asset["key"]), **{name: asset[name] for name in _SHOWN}}
    return {"before": before, "after": links.image(found["image"])}


def _gone(original: dict[str, Any]) -> SourceGone:
    return SourceGone(
        "The photo that this was made of is deleted.",
        upload_id=original["upload_id"],
        deleted_at=original["deleted_at"] or original["delete_after"],
        reason=original["reason"],
    )
