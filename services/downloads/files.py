"""Serving one stored file to whoever holds a signed link: whole, in part, or only told to be unchanged.

Objects are write-once, so a file's key and size identify its bytes for good: that is its ETag. Reading happens
in the connection's own thread, piece by piece; nothing here holds more of a file than one piece.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from marshmallow import fields
from prometheus_client import Counter, Histogram
from werkzeug.http import dump_options_header, parse_options_header

from services.downloads import ranges
from services.downloads.ranges import NotSatisfiable, Span
from shared.http import Answer, Principal, Request, Schema
from shared.http_problems import BodyTooLarge, UnsupportedMediaType, problem_body, problem_headers
from shared.links import LinkExpired, LinkForged, verify_link
from shared.problems import Conflict, NotFound, Problem
from shared.storage import READ_BYTES, ObjectExists, ObjectMissing, ObjectStat, ObjectStore, TooLarge, checked_key

sent_bytes = Counter("darkroom_download_bytes", "Bytes of files sent")
first_byte_seconds = Histogram(
    "darkroom_download_first_byte_seconds",
    "From the request to its first byte",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)

# A file of ours opened by itself in a browser runs nothing and loads nothing, whatever is in it.
_INERT = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


class ForgedLink(Problem):
    """The signature does not fit: the link was altered, cut, or is for another method."""

    status = 403
    code = "link_forged"
    title = "This link is not one of ours"
    remedy = "Copy the link again, whole, from the answer that gave it."


class ExpiredLink(Problem):
    """The link was good once."""

    status = 410
    code = "link_expired"
    title = "This link has expired"
    remedy = "Ask the API for the image again: each answer has fresh links."


class RangeNotSatisfiable(Problem):
    """The range begins behind the file's end; ``total`` is its size in bytes."""

    status = 416
    code = "range_not_satisfiable"
    title = "The file does not have these bytes"
    remedy = "Ask for a range that begins before `total`."


class FileExists(Conflict):
    """The link's place holds other bytes already; files never change."""

    code = "file_exists"
    title = "This file was sent before, with other content"
    remedy = "Ask for a new upload; each has a place of its own."


class LinkQuery(Schema):
    """What a signed link carries; all of it is covered by the signature."""

    expires = fields.Integer(required=True, metadata={"description": "Unix seconds"})
    signature = fields.String(required=True)
    disposition = fields.String(metadata={"description": "The answer's Content-Disposition"})


class PutLinkQuery(Schema):
    """What a signed link to send a file carries; all of it is covered by the signature."""

    expires = fields.Integer(required=True, metadata={"description": "Unix seconds"})
    signature = fields.String(required=True)
    max_bytes = fields.Integer(required=True, metadata={"description": "The most that may be sent"})
    content_type = fields.String(required=True, metadata={"description": "The Content-Type to send it with"})


class SentSchema(Schema):
    """A file as it arrived."""

    bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)


def bearer(request: Request, *, key: str, secret: str, now: float) -> Principal:
    """Return who holds this link: somebody the organization of the file has given it to.

    Raises:
        ForgedLink: the link does not fit method and key, to the letter.
        ExpiredLink: it did until recently.
        NotFound: no file can have this key.
    """
    try:
        verify_link(secret=secret, method=request.method, key=key, query=request.query_string, now=now)
    except LinkForged as error:
        raise ForgedLink("The link was altered or cut. Copy it again, whole, from the answer that gave it.") from error
    except LinkExpired as error:
        raise ExpiredLink(
            "Links live for about an hour. Ask for the image or file again: the answer has a fresh one."
        ) from error
    return Principal(kind="link", id="link", name="holder of a link", org_id=_owner(key))


def serve(store: ObjectStore, request: Request, *, key: str, now: float) -> Answer:
    """Answer GET or HEAD for the file ``key`` of a link that was verified.

    Raises:
        NotFound: the file is gone.
    """
    started = time.monotonic()
    found = store.stat(key)
    if found is None:
        raise NotFound("The file is gone; it may have been deleted.")
    etag = tag_of(found)
    headers = _headers(found, etag=etag, request=request, now=now)
    if ranges.matches(request.headers.get("If-None-Match"), etag):
        return Answer(HTTPStatus.NOT_MODIFIED, None, headers)
    try:
        span = ranges.requested(
            range_header=request.headers.get("Range") if request.method == "GET" else None,
            if_range=request.headers.get("If-Range"),
            etag=etag,
            total=found.bytes,
        )
    except NotSatisfiable:
        return _not_satisfiable(request, total=found.bytes)
    return _content(store, request, found, span=span, headers=headers, started=started)


def receive(store: ObjectStore, request: Request, *, key: str) -> Answer:
    """Store the body of a PUT under the key of its link, which was verified.

    Raises:
        UnsupportedMediaType: it is of another type than the link is for.
        BodyTooLarge: there are more bytes than the link allows.
        FileExists: other bytes were sent before; the same once more are fine.
    """
    allowed: str = request.query["content_type"]
    sent_as = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if sent_as != allowed:
        raise UnsupportedMediaType(f"This link takes Content-Type: {allowed}.")
    limit: int = request.query["max_bytes"]
    try:
        stored = store.put(key=key, chunks=_pieces_of(request), content_type=allowed, max_bytes=limit)
    except TooLarge as error:
        raise BodyTooLarge(
            f"The link takes {limit} bytes at most; ask for one of the right size.", limit=limit
        ) from error
    except ObjectExists as error:
        raise FileExists("Another file was sent with this link; ask for a new link.") from error
    return Answer(HTTPStatus.OK, {"bytes": stored.bytes, "sha256": stored.sha256})


def tag_of(found: ObjectStat) -> str:
    """Return a strong ETag: a write-once key never gets other bytes."""
    digest = hashlib.sha256(f"{found.key}:{found.bytes}".encode()).hexdigest()
    return f'"{digest[:32]}"'


def disposition_header(disposition: str) -> str:
    """Return a Content-Disposition with any letters outside ASCII the way RFC 6266 wants them."""
    if disposition.isascii():
        return disposition
    kind, options = parse_options_header(disposition)
    name = options.get("filename", "file")
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"{dump_options_header(kind, {'filename': plain})}; filename*=UTF-8''{quote(name, safe='')}"


def _pieces_of(request: Request) -> Iterator[bytes]:
    body = request.content
    if body is not None:
        yield from iter(lambda: body.read(READ_BYTES), b"")


def _owner(key: str) -> str:
    try:
        return checked_key(key).split("/")[1]
    except ValueError as error:
        raise NotFound("There is no such file.") from error


def _headers(found: ObjectStat, *, etag: str, request: Request, now: float) -> dict[str, str]:
    seconds_left = max(0, int(request.query["expires"] - now))
    headers = {
        "ETag": etag,
        "Cache-Control": f"private, max-age={seconds_left}",
        "Last-Modified": format_datetime(found.stored_at, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Security-Policy": _INERT,
    }
    disposition = request.query.get("disposition")
    return {**headers, "Content-Disposition": disposition_header(disposition)} if disposition else headers


def _content(
    store: ObjectStore,
    request: Request,
    found: ObjectStat,
    *,
    span: Span | None,
    headers: Mapping[str, str],
    started: float,
) -> Answer:
    whole = Span(0, found.bytes, found.bytes)
    wanted = span or whole
    status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
    described = {
        **headers,
        "Content-Type": found.content_type,
        "Content-Length": str(wanted.end - wanted.start),
        **({"Content-Range": span.content_range} if span else {}),
    }
    if request.method == "HEAD":
        return Answer(status, None, described)
    try:
        pieces = store.open(found.key, start=wanted.start, end=wanted.end)
    except ObjectMissing as error:
        raise NotFound("The file is gone; it was deleted just now.") from error
    return Answer(status, _measured(pieces, started=started), described)


def _measured(pieces: Iterator[bytes], *, started: float) -> Iterator[bytes]:
    """Pass the pieces on, counting; closing this closes what they come from."""
    try:
        for number, piece in enumerate(pieces):
            if number == 0:
                first_byte_seconds.observe(time.monotonic() - started)
            yield piece
            sent_bytes.inc(len(piece))
            time.sleep(0)  # a client that is faster than the disk must not keep the others waiting
    finally:
        pieces.close()  # type: ignore[attr-defined]  # a generator, by the contract of ObjectStore.open


def _not_satisfiable(request: Request, *, total: int) -> Answer:
    problem = RangeNotSatisfiable(f"The file has {total} bytes; ask for a range that begins within it.", total=total)
    members = problem_body(problem, instance=request.path, request_id=request.request_id)
    headers = {**problem_headers(problem), "Content-Range": f"bytes */{total}"}
    return Answer(problem.status, msgspec.json.encode(members), headers)
