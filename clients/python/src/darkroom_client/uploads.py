"""Uploads: photos that jobs are made from."""

from typing import Any

from darkroom_client.errors import NotFound
from darkroom_client.models import DeletionReceipt, Upload, UploadLink
from darkroom_client.photos import Photo, Progress, Source, opened
from darkroom_client.transport import Answer, Transport, segment

# The server reads, checks and cleans a photo within 30 s; fetching one takes part of that.
_SERVERS_SECONDS = 15.0


class Uploads:
    """``darkroom.uploads``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        source: Source,
        *,
        purpose: str = "room",
        keep_original: bool | None = None,
        content_type: str | None = None,
        multipart: bool = False,
        presigned: bool = False,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Upload:
        """Send a photo: JPEG, PNG or WebP, at most 10 MB.

        Args:
            source: a path, the bytes, or a binary file, which is read from where it stands and not closed.
            purpose: `room product inspiration face profile`; it decides how long the photo is kept.
            keep_original: keep a `face` for longer than the job needs it.
            content_type: told by the content unless given.
            multipart: send a form instead of the photo itself, for proxies that let nothing else pass.
            presigned: send the bytes to the object store by a signed link, and have them taken in from there.
            on_progress: called with the bytes sent and their total; begins at 0 again with each try.
            idempotency_key: give one of your own to send the same photo again after a crash of yours.

        Raises:
            ImageRefused, LimitExceeded: the photo is not usable.
            ValueError: it is empty, or is to be sent in two ways.
        """
        if multipart and presigned:
            raise ValueError("choose multipart or presigned: a signed link says itself how the photo is sent")
        terms: dict[str, Any] = {"purpose": purpose, "keep_original": keep_original}
        with opened(source) as file:
            photo = Photo.of(file, content_type=content_type)
            if presigned:
                return self._by_link(photo, terms, on_progress=on_progress, idempotency_key=idempotency_key)
            photo = photo.as_form() if multipart else photo
            answer = self._transport.send(
                "POST",
                "/v1/uploads",
                query={**terms, "keep_original": None if keep_original is None else str(keep_original).lower()},
                content=lambda: photo.body(on_progress),
                headers={"Content-Type": photo.content_type},
                idempotency_key=idempotency_key,
            )
        return Upload.from_json(answer.body)

    def from_url(
        self,
        url: str,
        *,
        purpose: str = "room",
        keep_original: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Upload:
        """Have a photo fetched from a public address: ``http`` or ``https``, on port 80 or 443.

        Raises:
            ImageRefused, LimitExceeded: what is there is not usable.
            InvalidRequest: the address is refused (`url_refused`), or nothing comes from it (`url_unreachable`).
        """
        body = _given({"url": url, "purpose": purpose, "keep_original": keep_original})
        answer = self._transport.send(
            "POST", "/v1/uploads/from-url", body=body, idempotency_key=idempotency_key, more_seconds=_SERVERS_SECONDS
        )
        return Upload.from_json(answer.body)

    def get(self, upload_id: str) -> Upload:
        """Look an upload up."""
        return Upload.from_json(self._transport.send("GET", f"/v1/uploads/{segment(upload_id)}").body)

    def delete(self, upload_id: str) -> None:
        """Delete an upload and its bytes for good."""
        try:
            self._transport.send("DELETE", f"/v1/uploads/{segment(upload_id)}")
        except NotFound as error:
            if error.attempts == 1:
                raise
            # An earlier try deleted it, and its answer was lost.

    def deletion_receipt(self, upload_id: str) -> DeletionReceipt:
        """Return the signed receipt that an upload's bytes are gone.

        Raises:
            Conflict: they are there still.
        """
        path = f"/v1/uploads/{segment(upload_id)}/deletion-receipt"
        return DeletionReceipt.from_json(self._transport.send("GET", path).body)

    def _by_link(
        self, photo: Photo, terms: dict[str, Any], *, on_progress: Progress | None, idempotency_key: str | None
    ) -> Upload:
        """Announce the photo, send it where the link leads, and complete the upload: each safe to repeat."""
        announced = {"content_type": photo.content_type, "bytes": photo.size, "sha256": photo.sha256()}
        answer = self._transport.send(
            "POST", "/v1/uploads/presign", body=_given({**terms, **announced}), idempotency_key=idempotency_key
        )
        link = UploadLink.from_json(answer.body)
        self._send_by(link, photo, on_progress=on_progress)
        completed = self._transport.send(
            "POST", f"/v1/uploads/{segment(link.upload_id)}/complete", more_seconds=_SERVERS_SECONDS
        )
        return Upload.from_json(completed.body)

    def _send_by(self, link: UploadLink, photo: Photo, *, on_progress: Progress | None) -> None:
        """Send the bytes; the link is its own credential, and gets no key."""
        sent = photo.as_form(link.fields) if link.method == "POST" else photo
        headers = {"Content-Type": sent.content_type, **link.headers}

        def once() -> Answer:
            body = sent.body(on_progress)
            with self._transport.opened(link.method, link.url, with_key=False, data=body, headers=headers) as answer:
                return Answer(answer.status_code, answer.headers, None)

        self._transport.again_and_again(once, what=f"upload {link.upload_id}")


def _given(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that say something."""
    return {name: value for name, value in body.items() if value is not None}
