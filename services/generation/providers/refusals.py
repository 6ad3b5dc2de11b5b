"""What a vendor's HTTP status means in the words of the taxonomy. It knows HTTP, and no vendor."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from services.generation.operations import Lost, Refused
from services.generation.providers.wire import Reply
from services.generation.storable import storable

RETRY_AFTER_MAX_SECONDS: Final = 3600.0
_DETAIL_CHARACTERS: Final = 300
_OVERLOADED: Final = re.compile(r"capacity|overloaded|scheduling|no runner", re.IGNORECASE)
_ID: Final = re.compile(r"[\w.-]{1,200}", re.ASCII)
_CODES: Final = {
    400: "invalid_input",
    401: "auth_failed",
    402: "auth_failed",
    403: "auth_failed",
    404: "model_retired",
    405: "invalid_input",
    408: "provider_timeout",
    410: "model_retired",
    413: "invalid_input",
    415: "invalid_input",
    422: "invalid_input",
    503: "capacity",
    529: "capacity",
}
# A proxy before the vendor answers these for it: what happened behind nobody knows, unless the vendor itself said so.
_FROM_THE_EDGE: Final = frozenset({502, 504, *range(520, 528)})


def is_success(reply: Reply) -> bool:
    """Return whether the vendor says that it did what it was asked."""
    return HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES


def is_id(said: Any) -> bool:
    """Return whether a vendor's own id may be put into addresses as it is, and stored."""
    return isinstance(said, str) and _ID.fullmatch(said) is not None


def refusal(reply: Reply, *, key: str, code_of: Callable[[Any], str | None] = lambda _content: None) -> Refused | Lost:
    """Return what an answer other than success means for a request that asked for work.

    Args:
        reply: the answer.
        key: what must not be in the detail, should the vendor quote it.
        code_of: the code that a vendor's own error (JSON) stands for, where it is not its status'.
    """
    content = reply.json()
    detail = f"HTTP {reply.status}: {excerpt(reply, key=key)}"
    own = _own_code(content, code_of) if isinstance(content, dict) else None
    if own is None and not isinstance(content, dict) and reply.status in _FROM_THE_EDGE:
        return Lost(detail=detail)
    if own is None and reply.status < HTTPStatus.BAD_REQUEST:
        return Lost(detail=detail)  # a redirect, or a success without sense
    code = own or _code(reply)
    return Refused(code=code, detail=detail, retry_after_seconds=retry_after_seconds(reply))


def _own_code(content: Mapping[str, Any], code_of: Callable[[Any], str | None]) -> str | None:
    """Return the code of a vendor's own error; None where it is of another shape than the vendor promises."""
    try:
        return code_of(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _code(reply: Reply) -> str:
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "capacity" if _OVERLOADED.search(reply.body[:2000].decode("utf-8", "replace")) else "rate_limited"
    if reply.status == HTTPStatus.GATEWAY_TIMEOUT:
        return "provider_timeout"
    default = "provider_error" if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_input"
    return _CODES.get(reply.status, default)


def retry_after_seconds(reply: Reply) -> float | None:
    """Return for how long the vendor wants to be left alone, at most an hour; None where it does not say."""
    text = reply.headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS) if seconds == seconds else None  # noqa: PLR0124  not NaN


def excerpt(reply: Reply, *, key: str) -> str:
    """Return the beginning of an answer as one line of text, for our log."""
    text = " ".join(reply.body[:2000].decode("utf-8", "replace").split())
    return str(storable(text.replace(key, "***")[:_DETAIL_CHARACTERS]))
