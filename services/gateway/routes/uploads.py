"""Routes of uploads: pictures that jobs are made from."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.gateway import deletion_receipts, presigned, uploads
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.uploads import (
    DeletionReceiptSchema,
    FromUrlRequest,
    PresignRequest,
    PresignSchema,
    ReceiptKeysSchema,
    UploadQuery,
    UploadSchema,
)
from services.gateway.uploads import Safe
from shared.http import Alias, Answer, Request, route
from shared.ids import is_id
from shared.images import CorruptImage, ImageTooLarge, UnsupportedImage
from shared.off_hub import WorkFailed
from shared.outside import UrlRefused, UrlUnreachable
from shared.problems import Conflict, Forbidden, LimitExceeded, NotFound

_TAGS = ("uploads",)
_UPLOAD_SECONDS = 30.0
_FETCH_SECONDS = 15.0
_REFUSALS = (Forbidden, LimitExceeded, UnsupportedImage, ImageTooLarge, CorruptImage, WorkFailed, Conflict)


def _asset(service: Any, request: Request, upload_id: str) -> dict[str, Any]:
    _require_upload_id(upload_id)
    found: dict[str, Any] = service.catalog.asset(**request.owner, asset_id=upload_id)
    return found


class UploadRoutes(Wiring):
    """Sending a picture in, looking it up, deleting it."""

    @route(
        "POST",
        "/v1/uploads",
        aliases=(Alias("POST", "/api/upload"),),
        auth=api_key,
        guard=idempotent(prefix="ast"),
        query=UploadQuery,
        reads=("multipart/form-data", "image/jpeg", "image/png", "image/webp"),
        max_body_bytes=uploads.MAX_BYTES + uploads.FORM_BYTES,
        too_large=uploads.too_large,
        time_limit_seconds=_UPLOAD_SECONDS,
        answers={201: UploadSchema},
        problems=(*_REFUSALS, RequestInProgress, IdempotencyKeyReused),
        summary="Send an image: as the part `file` of a form, or as the body itself",
        description="JPEG, PNG or WebP by its content, of at most 10 MB and 50 million pixels, the longer side at "
        "most 20,000. It is stored upright, in sRGB and without metadata such as its GPS position.",
        tags=_TAGS,
    )
    def create_upload(self, request: Request) -> Answer:
        """Check and store the image, then tell the catalog of it."""
        safe = uploads.made_safe(
            self.image_line, uploads.received(request), org_id=request.org_id, asset_id=request.claim.resource_id
        )
        return self._taken_in(request, safe, terms=request.query, user_id=request.asker.user_id)

    @route(
        "POST",
        "/v1/uploads/from-url",
        auth=api_key,
        guard=idempotent(prefix="ast"),
        body=FromUrlRequest,
        time_limit_seconds=_UPLOAD_SECONDS,
        answers={201: UploadSchema},
        problems=(*_REFUSALS, UrlRefused, UrlUnreachable, RequestInProgress, IdempotencyKeyReused),
        summary="Have an image fetched from a public address",
        description="`http` or `https` on port 80 or 443, at most 3 redirects, 15 seconds and 10 MB. What is there is "
        "checked like any other upload.",
        tags=_TAGS,
    )
    def create_upload_from_url(self, request: Request) -> Answer:
        """Fetch the image, then go on as with one that was sent."""
        with self.turns.of(request.org_id):
            if request.claim.again and (known := self._known(request)) is not None:
                return known
            file = uploads.fetched(self.outside, request.body["url"], whose=request.org_id, seconds=_FETCH_SECONDS)
            safe = uploads.made_safe(self.image_line, file, org_id=request.org_id, asset_id=request.claim.resource_id)
            return self._taken_in(request, safe, terms=request.body, user_id=request.asker.user_id)

    @route(
        "POST",
        "/v1/uploads/presign",
        auth=api_key,
        guard=idempotent(prefix="ast", keeps_answer=False),
        body=PresignRequest,
        answers={201: PresignSchema},
        problems=(Forbidden, LimitExceeded, Conflict, RequestInProgress, IdempotencyKeyReused),
        summary="Get a link to send an image to the store directly",
        description="Send the bytes as the answer says, then call `complete`. What is not completed within a day (a "
        "`face`: within 30 minutes) is deleted.",
        tags=_TAGS,
    )
    def presign_upload(self, request: Request) -> Answer:
        """Record what is coming and sign the link for it."""
        if request.body["bytes"] > uploads.MAX_BYTES:
            raise uploads.too_large(uploads.MAX_BYTES, request.body["bytes"])
        upload_id = request.claim.resource_id
        key = presigned.key_of(org_id=request.org_id, upload_id=upload_id, content_type=request.body["content_type"])
        expected = self.catalog.expect_upload(
            **request.owner, upload_id=upload_id, user_id=request.asker.user_id, key=key, **request.body
        )
        expires_at = int(datetime.fromisoformat(expected["expires_at"]).timestamp())
        answer = presigned.how_to_send(self.store, links_now(self), expected, expires_at=expires_at)
        return Answer(201, answer, {"Location": f"/v1/uploads/{upload_id}", "Cache-Control": "private, no-store"})

    @route(
        "POST",
        "/v1/uploads/<upload_id>/complete",
        auth=api_key,
        time_limit_seconds=_UPLOAD_SECONDS,
        answers={201: UploadSchema},
        problems=(*_REFUSALS, presigned.UploadNotSent, presigned.UploadMismatch),
        summary="Turn what was sent with a presigned link into an upload",
        description="Safe to repeat: it answers the same upload again. What is refused is deleted; send it anew with "
        "the same link while that is good.",
        tags=_TAGS,
    )
    def complete_upload(self, request: Request, upload_id: str) -> Answer:
        """Check what was sent, then go on as with an image that came to us."""
        _require_upload_id(upload_id)
        expected = self.catalog.expected_upload(**request.owner, upload_id=upload_id)
        if expected["asset_id"]:
            return _created(self.catalog.asset(**request.owner, asset_id=expected["asset_id"]))
        with self.turns.of(request.org_id):
            safe = presigned.made_safe(self.store, self.image_line, expected, org_id=request.org_id)
            answer = self._taken_in(request, safe, terms=expected, user_id=expected["user_id"])
        uploads.discard(self.store, expected["key"])
        return answer

    def _taken_in(self, request: Request, safe: Safe, *, terms: Mapping[str, Any], user_id: str | None) -> Answer:
        """Store an image and tell the catalog of it; ``terms`` has its purpose and how long it is kept.

        Of a face the catalog is told before, too: whatever happens in between, somebody knows of its bytes.

        Raises:
            Conflict: an earlier try made the upload, and it was deleted since: what was stored just now goes again.
        """
        agreed = {"user_id": user_id, "purpose": terms["purpose"], "keep_original": terms["keep_original"]}
        asset = {**request.owner, **safe.asset, **agreed}
        try:
            if asset["purpose"] != "face" or self.catalog.announce_asset(**asset):
                uploads.keep(self.store, safe)
            known = self.catalog.register_asset(**asset)
        except NotFound as error:
            uploads.discard(self.store, asset["key"])
            raise Conflict(
                "An earlier try made this upload, and it was deleted since; send it with a new Idempotency-Key."
            ) from error
        return _created(uploads.kept(self.store, asset, known))

    def _known(self, request: Request) -> Answer | None:
        """Return the answer of an earlier try that reached the catalog: the address may give another picture now."""
        try:
            return _created(self.catalog.asset(**request.owner, asset_id=request.claim.resource_id))
        except NotFound:
            return None

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
        self.catalog.delete_asset(**request.owner, asset_id=upload_id)
        return Answer(204)

    @route(
        "GET",
        "/v1/uploads/<upload_id>/deletion-receipt",
        auth=api_key,
        answers={200: DeletionReceiptSchema},
        problems=(Forbidden, Conflict),
        summary="The signed receipt that an upload's bytes are gone; 409 while they are there",
        tags=_TAGS,
    )
    def deletion_receipt(self, request: Request, upload_id: str) -> Answer:
        """Return the receipt of one deletion."""
        _require_upload_id(upload_id)
        deletion = self.catalog.deletion(**request.owner, asset_id=upload_id)
        return Answer(200, deletion_receipts.issue(self.db, deletion, secret=self.settings.signing_secret))

    @route(
        "GET",
        "/v1/deletion-receipts/keys",
        auth=None,
        answers={200: ReceiptKeysSchema},
        summary="The public keys that deletion receipts are checked with",
        tags=_TAGS,
    )
    def deletion_receipt_keys(self, _request: Request) -> Answer:
        """Return the keys."""
        with self.db.transaction() as session:
            return Answer(200, deletion_receipts.listed(session, secret=self.settings.signing_secret))


def _created(asset: Mapping[str, Any]) -> Answer:
    return Answer(201, dict(asset), {"Location": f"/v1/uploads/{asset['id']}"})


def _require_upload_id(upload_id: str) -> None:
    if not is_id(upload_id, prefix="ast"):
        raise NotFound("There is no such upload.")
