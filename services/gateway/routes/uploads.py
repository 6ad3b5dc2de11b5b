"""Routes of uploads: pictures that jobs are made from."""

from typing import Any

from services.gateway import uploads
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.uploads import UploadQuery, UploadSchema
from shared.http import Answer, Request, route
from shared.ids import is_id
from shared.images import CorruptImage, ImageTooLarge, UnsupportedImage
from shared.off_hub import WorkFailed
from shared.problems import Conflict, Forbidden, LimitExceeded, NotFound

_TAGS = ("uploads",)
_UPLOAD_SECONDS = 30.0


def _asset(service: Any, request: Request, upload_id: str) -> dict[str, Any]:
    _require_upload_id(upload_id)
    found: dict[str, Any] = service.catalog.asset(org_id=request.org_id, asset_id=upload_id)
    return found


class UploadRoutes(Wiring):
    """Sending a picture in, looking it up, deleting it."""

    @route(
        "POST",
        "/v1/uploads",
        auth=api_key,
        guard=idempotent(prefix="ast"),
        query=UploadQuery,
        reads=("multipart/form-data", "image/jpeg", "image/png", "image/webp"),
        max_body_bytes=uploads.MAX_BYTES + uploads.FORM_BYTES,
        too_large=uploads.too_large,
        time_limit_seconds=_UPLOAD_SECONDS,
        answers={201: UploadSchema},
        problems=(
            Forbidden,
            LimitExceeded,
            UnsupportedImage,
            ImageTooLarge,
            CorruptImage,
            WorkFailed,
            Conflict,
            RequestInProgress,
            IdempotencyKeyReused,
        ),
        summary="Send an image: as the part `file` of a form, or as the body itself",
        description="JPEG, PNG or WebP by its content, of at most 10 MB and 50 million pixels. It is stored upright, "
        "in sRGB and without metadata such as its GPS position.",
        tags=_TAGS,
    )
    def create_upload(self, request: Request) -> Answer:
        """Check and store the image, then tell the catalog of it."""
        file = uploads.received(request)
        stored = uploads.store_image(self.store, file, org_id=request.org_id, asset_id=request.claim.resource_id)
        asset = self.catalog.register_asset(
            **stored,
            user_id=request.asker.user_id,
            purpose=request.query["purpose"],
            keep_original=request.query["keep_original"],
        )
        return Answer(201, asset, {"Location": f"/v1/uploads/{asset['id']}"})

    @route(
        "GET",
        "/v1/uploads/<upload_id>",
        auth=api_key,
        answers={200: UploadSchema},
        problems=(Forbidden,),
        summary="Look an upload up",
        tags=_TAGS,
    )
    def upload(self, request: Request, upload_id: str) -> Answer:
        """Return one upload."""
        return Answer(200, _asset(self, request, upload_id))

    @route(
        "DELETE",
        "/v1/uploads/<upload_id>",
        auth=api_key,
        answers={204: None},
        current=(UploadSchema, _asset),
        problems=(Forbidden,),
        summary="Delete an upload and its bytes for good",
        tags=_TAGS,
    )
    def delete_upload(self, request: Request, upload_id: str) -> Answer:
        """Delete one upload."""
        _require_upload_id(upload_id)
        self.catalog.delete_asset(org_id=request.org_id, asset_id=upload_id)
        return Answer(204)


def _require_upload_id(upload_id: str) -> None:
    if not is_id(upload_id, prefix="ast"):
        raise NotFound("There is no such upload.")
