"""Pictures that clients send to the store themselves: the link they send with, and what becomes of what they sent."""

from collections.abc import Mapping
from typing import Any

import structlog

from services.gateway import uploads
from services.gateway.links import Links
from services.gateway.uploads import Received, Safe
from shared.images import CorruptImage, ImageTooLarge, UnsupportedImage
from shared.line import Line
from shared.problems import Conflict, Problem
from shared.storage import ObjectMissing, ObjectStore

log = structlog.get_logger(__name__)


class UploadNotSent(Conflict):
    """The bytes have not arrived; what was sent before and refused was deleted."""

    code = "upload_not_sent"
    title = "The file has not been sent yet"
    remedy = "Send the bytes to the address the upload came with, then complete it again."


class UploadMismatch(Problem):
    """What was sent is not what was announced: another size, or another SHA-256. It was deleted."""

    status = 422
    code = "upload_mismatch"
    title = "The file is not the one that was announced"
    remedy = "Ask for another upload with the size and SHA-256 the file really has."


REFUSALS = (UnsupportedImage, ImageTooLarge, CorruptImage, UploadMismatch)


def key_of(*, org_id: str, upload_id: str, content_type: str) -> str:
    """Return where the bytes of an upload are sent; what is stored for good gets a key of its own."""
    return f"assets/{org_id}/{upload_id}.sent.{uploads.EXTENSIONS[content_type]}"


def how_to_send(store: ObjectStore, links: Links, upload: Mapping[str, Any], *, expires_at: int) -> dict[str, Any]:
    """Return the request that sends the bytes: a form for the store's own address, else a PUT to a signed link.

    ``upload`` is as the catalog recorded it; ``expires_at`` is in Unix seconds.
    """
    terms = {"key": upload["key"], "content_type": upload["content_type"]}
    answer = {"upload_id": upload["id"], "expires_at": upload["expires_at"]}
    form = store.upload_form(**terms, size=upload["bytes"], seconds=max(1, int(expires_at - links.now)))
    if form is not None:
        return {**answer, "method": "POST", "url": form.url, "fields": dict(form.fields)}
    url = links.to_send(**terms, max_bytes=upload["bytes"], expires_at=expires_at)
    return {**answer, "method": "PUT", "url": url, "headers": {"Content-Type": upload["content_type"]}}


def made_safe(store: ObjectStore, line: Line, upload: Mapping[str, Any], *, org_id: str) -> Safe:
    """Check what was sent, and return it as it is to be stored.

    Raises:
        UploadNotSent: nothing has arrived.
        UploadMismatch, UnsupportedImage, ImageTooLarge, CorruptImage: it is refused, and deleted.
        Unavailable: too many pictures of the organization wait for their turn already.
    """
    try:
        return uploads.made_safe(line, _sent(store, upload), org_id=org_id, asset_id=upload["id"])
    except REFUSALS as refusal:
        uploads.discard(store, upload["key"])
        log.info("sent_upload_refused", upload_id=upload["id"], code=refusal.code)
        raise


def _sent(store: ObjectStore, upload: Mapping[str, Any]) -> Received:
    """Return the bytes, if they are those that were announced; a wrong size is seen before anything is read."""
    found = store.stat(upload["key"])
    if found is None:
        raise UploadNotSent("Nothing has arrived yet: send the file as the answer of presign says, then complete it.")
    if found.bytes != upload["bytes"]:
        raise UploadMismatch(f"{upload['bytes']} bytes were announced and {found.bytes} were sent.")
    try:
        data = b"".join(store.open(upload["key"]))
    except ObjectMissing as error:
        raise UploadNotSent("The file was deleted just now; send it again, then complete it.") from error
    if upload["sha256"] and uploads.digest(data) != upload["sha256"]:
        raise UploadMismatch("The SHA-256 of what was sent is not the one that was announced.")
    return Received(data=data, file_name=None)
