"""Bringing a result home: from an address the vendor names, or out of its answer. Addresses go through the guard."""

from http import HTTPStatus
from typing import Final

from services.generation.operations import MadeImage, Refused, Running
from services.generation.providers import answers
from shared.outside import Outside, UrlRefused, UrlUnreachable
from shared.problems import LimitExceeded, Unavailable

RESULT_BYTES_MAX: Final = 50_000_000
RESULT_SECONDS: Final = 30.0
_GONE: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def fetched(outside: Outside, url: str) -> MadeImage | Refused | Running:
    """Return the image at ``url``; ``Running`` where fetching it again may succeed."""
    try:
        return decoded(url.partition(",")[2]) if url.startswith("data:") else _opened(outside, url)
    except UrlRefused as refusal:
        return Refused(code="result_corrupt", detail=f"the result's address: {refusal.detail}", ran=True)
    except LimitExceeded:
        return Refused(code="result_corrupt", detail=f"the result has over {RESULT_BYTES_MAX} bytes", ran=True)
    except (UrlUnreachable, Unavailable):
        return Running(phase="collecting")


def _opened(outside: Outside, url: str) -> MadeImage | Refused | Running:
    with outside.opened(url, max_bytes=RESULT_BYTES_MAX, seconds=RESULT_SECONDS, redirects=3) as reply:
        if reply.status in _GONE:
            return Refused(code="result_expired", detail=f"the result's address answers {reply.status}", ran=True)
        if reply.status != HTTPStatus.OK:
            return Running(phase="collecting")
        return as_image(reply.read())


def decoded(text: str) -> MadeImage | Refused:
    """Return the image that ``text`` is in base 64."""
    try:
        return as_image(answers.of_base64(text))
    except ValueError:
        return Refused(code="result_corrupt", detail="the result is no base 64", ran=True)


def as_image(data: bytes) -> MadeImage | Refused:
    """Return the bytes as an image by how they begin; whether they can be decoded to the end is told when stored."""
    kind = content_type_of(data)
    if kind is None:
        return Refused(code="result_corrupt", detail=f"the result begins like no image: {data[:12]!r}", ran=True)
    return MadeImage(data=data, content_type=kind)


def content_type_of(data: bytes) -> str | None:
    """Return the media type of an image we take, by its first bytes."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
