"""Images: finding them, and fetching their bytes, of which every one is checked."""

import builtins
import hashlib
import logging
import os
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import requests

from darkroom_client import pages
from darkroom_client.errors import DownloadCorrupt, LinkRefused, NoAnswer, PermissionDenied
from darkroom_client.models import Comparison, Image, Origin
from darkroom_client.photos import Progress
from darkroom_client.transport import Answer, Transport, segment

log = logging.getLogger("darkroom_client")

_PIECE_BYTES = 64 * 1024
_PARTIAL = 206
_EXTENSIONS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/svg+xml": ".svg"}


class Images:
    """``darkroom.images``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(  # noqa: PLR0913  each says which images
        self,
        *,
        job_id: str | None = None,
        workflow: str | None = None,
        session_id: str | None = None,
        product_id: str | None = None,
        style: str | None = None,
        room_type: str | None = None,
        favorite: bool | None = None,
        pinned: bool | None = None,
        created_since: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 50,
    ) -> Iterator[Image]:
        """Yield the organization's images, the newest first: all of them, or those that fit; times know their zone."""
        query = {
            "job_id": job_id,
            "workflow": workflow,
            "session_id": session_id,
            "product_id": product_id,
            "style": style,
            "room_type": room_type,
            "favorite": None if favorite is None else str(favorite).lower(),
            "pinned": None if pinned is None else str(pinned).lower(),
            "created_since": created_since and created_since.isoformat(),
            "created_before": created_before and created_before.isoformat(),
        }
        return pages.each(self._transport, "/v1/images", model=Image, page_size=page_size, query=query)

    def favorite(self, image_id: str) -> Image:
        """Mark an image as a favorite."""
        return Image.from_json(self._transport.send("PUT", f"/v1/images/{segment(image_id)}/favorite").body)

    def unfavorite(self, image_id: str) -> Image:
        """Take the mark off again."""
        return Image.from_json(self._transport.send("DELETE", f"/v1/images/{segment(image_id)}/favorite").body)

    def comparison(self, image_id: str) -> Comparison:
        """Return an image beside the upload it was made of.

        Raises:
            SourceGone: the upload is deleted.
            ConsentRequired: it is a face that nobody has agreed to keep.
        """
        return Comparison.from_json(self._transport.send("GET", f"/v1/images/{segment(image_id)}/comparison").body)

    def get(self, image_id: str) -> Image:
        """Look an image up; its ``url`` is fresh."""
        return Image.from_json(self._transport.send("GET", f"/v1/images/{segment(image_id)}").body)

    def provenance(self, image_id: str) -> builtins.list[Origin]:
        """Return where an image comes from: itself first, then all it was made of, the uploads last."""
        answer = self._transport.send("GET", f"/v1/images/{segment(image_id)}/provenance").body
        return [Origin.from_json(one) for one in answer["line"]]

    def labelled(self, image_id: str, label: str) -> bytes:
        """Return a JPEG of an image with ``virtually_staged`` or ``ai_generated`` written on it."""
        url = f"{self._transport.base_url}/v1/images/{segment(image_id)}/content"

        def once() -> Answer:
            with self._transport.opened("GET", url, params={"label": label}) as answer:
                return Answer(answer.status_code, answer.headers, answer.content)

        copy: bytes = self._transport.again_and_again(once, what=f"image {image_id}").body
        return copy

    def content(self, image: Image | str) -> bytes:
        """Return an image's bytes.

        Raises:
            DownloadCorrupt: they are not what was promised.
        """
        image = self.get(image) if isinstance(image, str) else image
        file = BytesIO()
        self._complete(image, file, on_progress=None)
        return file.getvalue()

    def download(
        self, image: Image | str, to: str | os.PathLike[str] = ".", *, on_progress: Progress | None = None
    ) -> Path:
        """Write an image to a file and return its path.

        What arrives is kept beside it in a ``.part`` file, so that a download that broke off goes on where it was;
        the file itself appears at once, whole, and checked by size and SHA-256.

        Args:
            image: the image, or its id.
            to: the file, or a folder in which it is called by its id; one that ends in ``/`` is made.
            on_progress: called with the bytes there are and their total.

        Raises:
            DownloadCorrupt: the bytes are not what was promised.
        """
        image = self.get(image) if isinstance(image, str) else image
        path = Path(to)
        if os.fspath(to).endswith(("/", os.sep)):
            path.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            path /= image.id + _EXTENSIONS.get(image.content_type, "")
        part = path.with_name(f"{path.name}.{image.sha256[:12]}.part")
        try:
            with part.open("a+b") as file:
                self._complete(image, file, on_progress=on_progress)
        except DownloadCorrupt:
            part.unlink()
            raise
        part.replace(path)
        return path

    def _complete(self, image: Image, file: BinaryIO, *, on_progress: Progress | None) -> None:
        """Fetch what ``file`` lacks of the image, by a fresh link if this one is over, and check the whole."""
        try:
            self._fetch(image, file, on_progress=on_progress)
        except (LinkRefused, PermissionDenied):  # object stores say 403 of a link that is over
            self._fetch(self.get(image.id), file, on_progress=on_progress)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.sha256()
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
        if (size, digest.hexdigest()) != (image.bytes, image.sha256):
            text = f"image {image.id} is not what was promised: {size} bytes instead of {image.bytes}, or other ones"
            raise DownloadCorrupt(text, code="download_corrupt", retryable=True)

    def _fetch(self, image: Image, file: BinaryIO, *, on_progress: Progress | None) -> None:
        def once() -> Answer:
            have = file.seek(0, os.SEEK_END)
            if have < image.bytes:
                self._more(image, file, have=have, on_progress=on_progress)
            return Answer(_PARTIAL, {}, None)

        while True:
            size = file.seek(0, os.SEEK_END)
            try:
                self._transport.again_and_again(once, what=f"image {image.id}")
            except NoAnswer:
                if file.seek(0, os.SEEK_END) <= size:
                    raise
                log.debug("image %s: going on at byte %d", image.id, file.tell())
            else:
                return

    def _more(self, image: Image, file: BinaryIO, *, have: int, on_progress: Progress | None) -> None:
        """Append what comes until all is there; the link is its own credential, and gets no key."""
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with self._transport.opened("GET", image.url, with_key=False, headers=headers) as answer:
            if not _goes_on(answer, have=have):
                have = 0
                file.seek(0)
                file.truncate()
            end = have + int(answer.headers.get("Content-Length") or image.bytes)
            for piece in answer.iter_content(_PIECE_BYTES):
                file.write(piece)
                have += len(piece)
                if have > image.bytes:
                    break  # more than promised: whatever it is, it is not the image
                if on_progress:
                    on_progress(have, image.bytes)
        if have < min(end, image.bytes):  # urllib3 1 says nothing of a body that is too short
            raise NoAnswer(f"image {image.id} broke off after {have} bytes", code="no_answer", retryable=True)


def _goes_on(answer: requests.Response, *, have: int) -> bool:
    """Tell whether these are the bytes from ``have`` on; all of them come from a server that knows no ranges."""
    return answer.status_code == _PARTIAL and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
