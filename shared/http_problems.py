"""From an exception to the answer a client may read: problem+json (RFC 9457), and never the text of an exception.

What is not a `Problem` was not meant for the client: it becomes 500 with the request's id, under which the log has
the whole story.
"""

import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as MethodNotAllowedByMap

from shared.database import is_unavailable
from shared.ids import new_id
from shared.problems import NotFound, Problem, Unavailable
from shared.storage import StorageUnavailable

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
ERRORS_MAX = 50
NO_ADDRESS = "There is no such address; GET /docs lists those there are."
# Out of disk or file handles: it passes, and it is not the client's fault.
_EXHAUSTED = {errno.ENOSPC, errno.EMFILE, errno.ENFILE}
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What is left of one policy: ``quota`` requests per ``window_seconds``, the next of them after ``seconds``."""

    policy: str
    quota: int
    window_seconds: int
    remaining: int
    seconds: int


class MalformedRequest(Problem):
    """The bytes are no HTTP request one can read unambiguously; the connection is closed."""

    status = 400
    code = "malformed_request"
    title = "The request is not valid HTTP"
    remedy = "Use an HTTP client library; where one was used, look at the proxies in between."


class MethodNotAllowed(Problem):
    """The path exists, but not for this method; ``allow`` lists those it exists for."""

    status = 405
    code = "method_not_allowed"
    title = "This address does not take that method"
    remedy = "Use one of the methods in `allow`."


class RequestTimeout(Problem):
    """The client did not send its request within the time for it."""

    status = 408
    code = "request_timeout"
    title = "The request did not arrive in time"
    remedy = "Send the request again, over a faster connection or with a smaller body."
    retryable = True


class BodyTooLarge(Problem):
    """The body is larger than this address takes; ``limit`` is in bytes. It was not read."""

    status = 413
    code = "body_too_large"
    title = "The request's body is too large"
    remedy = "Send at most `limit` bytes."


class AddressTooLong(Problem):
    """The request line is longer than it may be."""

    status = 414
    code = "address_too_long"
    title = "The address is too long"
    remedy = "Send fewer or shorter parameters."


class UnsupportedMediaType(Problem):
    """The body is of a type this address does not read."""

    status = 415
    code = "unsupported_media_type"
    title = "This type of body is not accepted here"
    remedy = "Send one of the types the API's description lists, and name it in `Content-Type`."


class RateLimited(Problem):
    """More requests came than a policy allows; ``violated-policies`` names it, ``quotas`` goes into the headers."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"
    remedy = "Wait for `Retry-After` seconds, and from then on ask less often than `RateLimit-Policy` says."
    retryable = True
    standard_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"
    quotas: Sequence[Quota] = ()


class AbnormalUsage(Problem):
    """Too many requests of this address came with a credential that was refused."""

    status = 429
    code = "abnormal_usage"
    title = "This address is kept out for a while"
    remedy = "Look for what sends wrong credentials, give it the right one, and wait for `Retry-After` seconds."
    retryable = True
    standard_type = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"


class ReducedCapacity(Unavailable):
    """More is being worked on, or more connections are open, than this process can take."""

    code = "reduced_capacity"
    title = "The service is at its capacity right now"
    remedy = "Send the same request again after `Retry-After` seconds."
    standard_type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


class HeadersTooLarge(Problem):
    """The request's headers are larger or more than they may be."""

    status = 431
    code = "headers_too_large"
    title = "The request's headers are too large"
    remedy = "Send fewer or shorter headers."


_documentation = {"origin": ""}


def documented_at(origin: str) -> None:
    """Let the ``type`` of every problem lead to ``origin`` (``https://api.example.com``), from any host of ours."""
    _documentation["origin"] = origin


def type_of(problem: Problem) -> str:
    """Return the URI that names the kind of ``problem`` and leads to what is known of it."""
    return problem.standard_type or f"{_documentation['origin']}/docs/errors#{problem.code}"


def request_id(offered: str | None) -> str:
    """Return the client's own id of the request where it looks like one, else a fresh ``req_…``."""
    return offered if offered and _SANE_ID.fullmatch(offered) else new_id("req")


def problem_from(error: BaseException) -> Problem:
    """Return what the client is told about ``error``; log what it is not told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MethodNotAllowedByMap):
        allow = sorted(error.valid_methods or ())
        return MethodNotAllowed(f"This address takes {', '.join(allow)}.", allow=allow)
    if isinstance(error, HTTPException):
        return NotFound(NO_ADDRESS)
    if is_unavailable(error) or isinstance(error, StorageUnavailable) or _is_exhaustion(error):
        log.warning("dependency_unavailable", error_type=type(error).__name__, error=str(error))
        return Unavailable("A part of the system did not answer in time. Nothing is lost: try again.", retry_after=1)
    log.error("request_failed", error_type=type(error).__name__, exc_info=error)
    return Problem("Something went wrong on our side. Quote the request id when you ask about it.")


def _is_exhaustion(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _EXHAUSTED


def problem_body(problem: Problem, *, instance: str, request_id: str) -> dict[str, Any]:
    """Return the members of the answer; ``errors`` is always there, and never longer than a person reads."""
    members = problem.as_dict()
    errors = list(members.pop("errors", []))
    return {
        "type": type_of(problem),
        **members,
        "instance": instance,
        "request_id": request_id,
        "errors": errors[:ERRORS_MAX],
    }


def quota_headers(quotas: Iterable[Quota]) -> dict[str, str]:
    """Return RateLimit-Policy and RateLimit for the policies a request was counted under; nothing where there are none.

    Source: draft-ietf-httpapi-ratelimit-headers.
    """
    told = list(quotas)
    if not told:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{one.policy}";q={one.quota};w={one.window_seconds}' for one in told),
        "RateLimit": ", ".join(f'"{one.policy}";r={one.remaining};t={one.seconds}' for one in told),
    }


def problem_headers(problem: Problem) -> Mapping[str, str]:
    """Return the headers that go with the status: Retry-After, Allow, WWW-Authenticate."""
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    if "retry_after" in problem.extra:
        headers["Retry-After"] = str(problem.extra["retry_after"])
    elif problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    if "allow" in problem.extra:
        headers["Allow"] = ", ".join(problem.extra["allow"])
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="darkroom"'
    return headers
