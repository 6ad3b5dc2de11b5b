"""Conditional requests (RFC 9110, 13): a tag for each state of a thing, 304 where it is known, 412 where it is stale.

A tag is of what the client may see, without the signatures of its addresses: those change though nothing else does.
"""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from shared.http_exchange import Answer, Request
from shared.http_schemas import Shape, cut, has_signed, unsigned
from shared.problems import PreconditionFailed

_TAG = re.compile(r'(?:W/)?"([!#-~]*)"')
_TAG_BYTES = 12
_KEPT_BY_304 = ("ETag", "Cache-Control", "Retry-After", "Vary")


def tag_of(body: Any, shape: Shape | None, *, encoded: bytes | None = None) -> str:
    """Return the entity tag of a resource: ``"7-<hash>"`` where it has a ``version``, else ``"<hash>"``.

    Args:
        body: the resource, with nothing in it that ``shape`` does not declare.
        shape: what it may hold.
        encoded: ``body`` as JSON, where that has been made already.
    """
    if encoded is None or has_signed(shape):
        encoded = msgspec.json.encode(unsigned(body, shape))
    digest = hashlib.blake2b(encoded, digest_size=_TAG_BYTES).hexdigest()
    version = body.get("version") if isinstance(body, Mapping) else None
    return f'"{digest}"' if version is None else f'"{version}-{digest}"'


def tags_in(header: str | None) -> set[str]:
    """Return the tags of If-Match or If-None-Match, without quotes; ``*`` stands for itself."""
    text = (header or "").strip()
    return {"*"} if text == "*" else set(_TAG.findall(text))


def with_tag(request: Request, answer: Answer, tag: str) -> Answer:
    """Return ``answer`` with its tag, or the 304 that tells the client that it has it already."""
    tagged = answer.with_headers({"ETag": tag})
    known = tags_in(request.headers.get("If-None-Match"))
    if "*" not in known and tag.strip('"') not in known:
        return tagged
    kept = {name: tagged.headers[name] for name in _KEPT_BY_304 if name in tagged.headers}
    return Answer(HTTPStatus.NOT_MODIFIED, None, kept)


def require_match(request: Request, current: Mapping[str, Any], shape: Shape | None) -> None:
    """Refuse to change what is no longer as the client saw it.

    Where the resource has a ``version`` that alone decides, so that what is only derived (an estimate, a counter)
    never stands in the way.

    Raises:
        PreconditionFailed: ``current`` matches none of the tags in If-Match; it has the current state.
    """
    wanted = tags_in(request.headers.get("If-Match"))
    if "*" in wanted:
        return
    shown = cut(current, shape)
    tag = tag_of(shown, shape)
    if "version" in shown:
        stale = str(shown["version"]) not in {one.partition("-")[0] for one in wanted}
    else:
        stale = tag.strip('"') not in wanted
    if stale:
        raise PreconditionFailed(current=shown, etag=tag)
