"""Taking a picture in: out of the request, checked and made safe, into the store, known to the catalog."""

import atexit
import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from shared import images
from shared.crash import crash_point
from shared.http import Request
from shared.http_schemas import error_at, pointer, refusal
from shared.line import Line
from shared.off_hub import Pool
from shared.outside import Outside, UrlUnreachable
from shared.problems import Conflict, LimitExceeded, NotFound, Problem
from shared.storage import ObjectExists, ObjectMissing, ObjectStore, StorageUnavailable, measured, pieces

log = structlog.get_logger(__name__)

MEGABYTE: Final = 1 << 20
MAX_BYTES: Final = 10 * MEGABYTE
# What a form adds around the file: boundaries and the headers of its parts.
FORM_BYTES: Final = 16 << 10
# What the parser may gather for fields that are no files; its buffer has to fit as well.
FORM_MEMORY_BYTES: Final = 1 << 20
_FILE_NAME_CHARACTERS: Final = 255
# The dearest pictures within our limits take 4 s; one that takes twice that is made to, or too much for this host.
PICTURE_CPU_SECONDS: Final = 8
EXTENSIONS: Final = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


_pool = Pool(cpu_seconds=PICTURE_CPU_SECONDS)
atexit.register(_pool.close)


@dataclass(frozen=True, kw_only=True)
class Received:
    """A file as it came; its name is only ever shown, never used."""

    data: bytes
    file_name: str | None


@dataclass(frozen=True, kw_only=True)
class Safe:
    """An image encoded by us, and ``asset``, what the catalog is to know of it."""

    data: bytes
    asset: Mapping[str, Any]


def too_large(limit: int, size: int | None) -> Problem:
    """Return the refusal of a file above ``limit`` bytes; ``size`` is what the client says it is, if it does."""
    limit = min(limit, MAX_BYTES)
    current = f" (current: {_megabytes(size)})" if size else ""
    excess = {"excess": size - limit} if size else {}
    return LimitExceeded(f"File must be under {_megabytes(limit)}{current}", limit=limit, **excess)


def received(request: Request) -> Received:
    """Return the file in the request: the form's part ``file``, or the whole body.

    Raises:
        BadRequest: there is none, or the form is broken or holds anything else.
        LimitExceeded: it is larger than 10 MB.
    """
    content_type = request.headers.get("Content-Type", "")
    file = (
        _from_form(request)
        if content_type.lower().startswith("multipart/form-data")
        else Received(data=request.raw, file_name=None)
    )
    if len(file.data) > MAX_BYTES:
        raise too_large(MAX_BYTES, len(file.data))
    if not file.data:
        raise refusal([error_at("/file", "required", "send an image: JPEG, PNG or WebP")])
    return file


def fetched(outside: Outside, url: str, *, whose: str, seconds: float) -> Received:
    """Return the file at ``url``, whatever its server says that it is.

    Raises:
        UrlRefused, UrlUnreachable, Unavailable: the address, or what is there, is not fit, or cannot be looked up now.
        LimitExceeded: it is larger than 10 MB.
    """
    try:
        answer = outside.fetch(url, max_bytes=MAX_BYTES, whose=whose, seconds=seconds)
    except LimitExceeded as error:
        raise too_large(MAX_BYTES, None) from error
    if not answer.data:
        raise UrlUnreachable("The address answered with nothing.")
    return Received(data=answer.data, file_name=_shown(unquote(urlsplit(answer.url).path)))


def digest(data: bytes) -> str:
    """Return the SHA-256 in hex; other green threads run between two pieces."""
    hashing = hashlib.sha256()
    for piece in pieces(data):
        hashing.update(piece)
        time.sleep(0)
    return hashing.hexdigest()


def kept(store: ObjectStore, stored: Mapping[str, Any], asset: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``asset``; where the same picture was known before, what was stored just now goes again."""
    if asset["id"] != stored["asset_id"]:
        discard(store, stored["key"])
    return asset


def discard(store: ObjectStore, key: str) -> None:
    """Delete bytes that nobody needs; where that fails they stay for `darkroom cleanup`, and the request goes on."""
    try:
        store.delete(key)
    except StorageUnavailable as error:
        log.warning("removal_left_to_cleanup", key=key, error=str(error))


def made_safe(line: Line, file: Received, *, org_id: str, asset_id: str) -> Safe:
    """Encode the image anew, and say where it is to be stored and what the catalog is to know of it.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: by its content.
        Unavailable: too many pictures of the organization wait for their turn already.
    """
    with line.place_of(org_id):
        clean = _pool.run(images.normalise, file.data)
    described = measured(
        key=f"assets/{org_id}/{asset_id}.{EXTENSIONS[clean.content_type]}",
        chunks=clean.bytes,
        content_type=clean.content_type,
        write=len,
        max_bytes=None,
    )
    size = {"width": clean.width, "height": clean.height}
    return Safe(
        data=clean.bytes, asset={**asdict(described), **size, "asset_id": asset_id, "file_name": file.file_name}
    )


def keep(store: ObjectStore, safe: Safe) -> None:
    """Store an image.

    Raises:
        Conflict: an earlier try under the same id stored another picture.
        StorageUnavailable: the store does not answer.
    """
    key, content_type = safe.asset["key"], safe.asset["content_type"]
    try:
        stored = store.put(key=key, chunks=safe.data, content_type=content_type)
    except ObjectExists as error:
        raise Conflict(
            "An earlier try brought another picture; send the request with a new Idempotency-Key."
        ) from error
    crash_point("gateway.asset_stored")
    log.info("upload_stored", key=key, bytes=stored.bytes, content_type=content_type)


def store_thumbnail(store: ObjectStore, line: Line, asset: Mapping[str, Any], *, org_id: str) -> str:
    """Store a small JPEG of an upload beside it, and return its key; done again, the first one stays.

    Raises:
        NotFound: the upload was deleted in this very moment.
        WorkFailed: the picture took too long or too much memory.
        Unavailable: too many pictures of the organization wait for their turn already.
        StorageUnavailable: the store does not answer.
    """
    key = f"assets/{org_id}/{asset['id']}.thumb.jpg"
    with line.place_of(org_id):
        try:
            data = b"".join(store.open(asset["key"]))
        except ObjectMissing as error:
            raise NotFound("There is no such upload; it was deleted just now.") from error
        small = _pool.run(images.thumbnail, data)
    try:
        store.put(key=key, chunks=small, content_type="image/jpeg")
    except ObjectExists:
        log.info("thumbnail_known", asset_id=asset["id"])
    return key


def _from_form(request: Request) -> Received:
    parts, others = _parts(request)
    try:
        unknown = [name for name in [*others, *parts] if name != "file"]
        files = parts.getlist("file")
        if unknown or len(files) > 1:
            name = unknown[0] if unknown else "file"
            raise refusal([error_at(pointer(name), "unknown_field", "send one part, called file, and nothing else")])
        if not files:
            raise refusal([error_at("/file", "required", "send the image as the part called file, with a file name")])
        return Received(data=files[0].read(), file_name=_shown(files[0].filename))
    finally:
        for same_name in parts.listvalues():
            for file in same_name:
                file.close()


def _parts(request: Request) -> tuple[MultiDict[str, FileStorage], list[str]]:
    """Return the form's files, and the names of whatever else is in it."""
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    parser = FormDataParser(
        stream_factory=lambda *_, **__: BytesIO(),
        max_form_memory_size=FORM_MEMORY_BYTES,
        max_form_parts=10,
        silent=False,
    )
    try:
        _, form, files = parser.parse(BytesIO(request.raw), kind.lower(), None, dict(options))
    except Exception as error:  # the parser raises what comes, on bytes from outside
        raise refusal([error_at("", "invalid", "the form cannot be read")]) from error
    return files, list(form)


def _shown(file_name: str | None) -> str | None:
    """Return the last part of a path, without what a terminal or a page could take for more than text."""
    text = (file_name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in text if character.isprintable())[:_FILE_NAME_CHARACTERS] or None


def _megabytes(size: int) -> str:
    """Return ``15 MB``; what is only just above the limit never reads like the limit."""
    shown = round(size / MEGABYTE, 1)
    if size > MAX_BYTES:
        shown = max(shown, MAX_BYTES / MEGABYTE + 0.1)
    return f"{shown:g} MB"
