"""What can go wrong, one class per family of the API's stable codes; a code that is new here falls to its status."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypedDict

_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors", "retryable"}


class FieldProblem(TypedDict):
    """One field that was refused: ``pointer`` is a JSON pointer into what was sent."""

    pointer: str
    code: str
    detail: str


class DarkroomError(Exception):
    """A request was refused, or not answered.

    ``code`` is stable and made for programs, ``detail`` is made for people. ``status`` is None where there was no
    answer. ``retry_after`` is in seconds, where the answer had one; ``attempts`` says how often the request was sent;
    ``extra`` has the further members of the answer. Quote ``request_id`` when you ask about it.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str = "error",
        status: int | None = None,
        request_id: str | None = None,
        errors: Sequence[FieldProblem] = (),
        retryable: bool = False,
        retry_after: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.request_id = request_id
        self.errors = list(errors)
        self.retryable = retryable
        self.retry_after = retry_after
        self.extra = dict(extra or {})
        self.attempts = 1

    def __str__(self) -> str:
        """Return ``402 insufficient_credits: Not enough credits. (request req_…)``."""
        what = f"{self.status} {self.code}" if self.status else self.code
        fields = "".join(f"; {each.get('pointer')}: {each.get('detail')}" for each in self.errors)
        return f"{what}: {self.detail}{fields}" + (f" (request {self.request_id})" if self.request_id else "")


class NoAnswer(DarkroomError):
    """Nobody answered: no connection, a timeout, or an answer that broke off."""


class UnexpectedAnswer(DarkroomError):
    """An answer that is none of this API: another server answers here, or a promised field is missing."""


class InvalidRequest(DarkroomError):
    """What was sent does not fit; ``errors`` names the fields."""


class AuthenticationFailed(DarkroomError):
    """The API key is unknown, expired or revoked."""


class PermissionDenied(DarkroomError):
    """The API key is good, but not for this."""


class NotFound(DarkroomError):
    """There is no such thing in your organization."""


class Conflict(DarkroomError):
    """The current state does not allow it."""


class RequestInProgress(Conflict):
    """The same request, sent before, is still being answered."""


class StepNotAllowed(Conflict):
    """A staging session is at another step; `staging_sessions.get` says all about it."""

    @property
    def session_status(self) -> str:
        """Where the session stands."""
        return str(self.extra.get("session_status") or "")

    @property
    def allowed(self) -> "list[str]":
        """The actions that are allowed there."""
        return [str(action) for action in self.extra.get("allowed") or ()]

    @property
    def next_retry_number(self) -> "int | None":
        """The number of the next empty room, where another was asked for."""
        return self.extra.get("next_retry_number")


class ConsentRequired(Conflict):
    """The original is a face that nobody has agreed to keep: upload it with `keep_original` to compare with it."""


class SourceGone(InvalidRequest):
    """What was uploaded is deleted by now: ``extra`` has ``deleted_at`` and ``reason``. Upload it again."""


class QuoteRefused(Conflict):
    """The quote has expired, was used, or is for something else: ask for a new one."""


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key came before, with another request."""


class LimitExceeded(InvalidRequest):
    """A named limit was passed: ``extra["limit"]``, and ``extra["excess"]`` says by how much."""


class ImageRefused(InvalidRequest):
    """The uploaded file is no usable image: broken, of another type, or of too many pixels."""


class HoldRefused(DarkroomError):
    """It cannot be paid for; nothing was held, and nothing was begun."""

    @property
    def max_affordable(self) -> int:
        """How many of the job's generations could be paid for now."""
        return int(self.extra.get("max_affordable") or 0)


class InsufficientCredits(HoldRefused):
    """The balance is short: ``required`` and ``available`` are in credits."""

    @property
    def required(self) -> int:
        """What the job would hold."""
        return int(self.extra.get("required") or 0)

    @property
    def available(self) -> int:
        """What there is."""
        return int(self.extra.get("available") or 0)


class QuotaExceeded(HoldRefused):
    """The plan's monthly allowance is short; ``extra`` has ``limit``, ``used``, ``requested`` and ``resets_at``."""

    @property
    def limit(self) -> int:
        """How many generations the plan allows a month."""
        return int(self.extra.get("limit") or 0)

    @property
    def used(self) -> int:
        """How many of them are used."""
        return int(self.extra.get("used") or 0)

    @property
    def requested(self) -> int:
        """How many the job asks for."""
        return int(self.extra.get("requested") or 0)


class DailyCapReached(HoldRefused):
    """The organization's processing limit of the day is used up; ``extra["resets_at"]`` says until when."""


class RateLimited(DarkroomError):
    """Too many requests; ``retry_after`` says how many seconds to wait."""


class ServerFailed(DarkroomError):
    """Something went wrong on the other side."""


class ServiceUnavailable(ServerFailed):
    """A part of the system does not answer right now."""


class LinkRefused(DarkroomError):
    """A signed link has expired or was altered: fetch the image again for a new one."""


class DownloadCorrupt(DarkroomError):
    """What was downloaded is not what the API promised, by size or SHA-256; the file was not written."""


_BY_CODE: dict[str, type[DarkroomError]] = {
    "consent_required": ConsentRequired,
    "daily_cap_reached": DailyCapReached,
    "idempotency_key_reused": IdempotencyKeyReused,
    "image_corrupt": ImageRefused,
    "image_too_many_pixels": ImageRefused,
    "insufficient_credits": InsufficientCredits,
    "limit_exceeded": LimitExceeded,
    "link_expired": LinkRefused,
    "link_forged": LinkRefused,
    "quota_exceeded": QuotaExceeded,
    "quote_expired": QuoteRefused,
    "quote_mismatch": QuoteRefused,
    "quote_used": QuoteRefused,
    "request_in_progress": RequestInProgress,
    "source_gone": SourceGone,
    "step_not_allowed": StepNotAllowed,
    "unsupported_image_type": ImageRefused,
}
_BY_STATUS: dict[int, type[DarkroomError]] = {
    401: AuthenticationFailed,
    402: HoldRefused,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    429: RateLimited,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}


def from_answer(status: int, headers: Mapping[str, str], body: Any) -> DarkroomError:
    """Return the error of an answer that is no success; ``body`` is its JSON, or None where it has none."""
    problem = body if isinstance(body, dict) and "code" in body else {}
    kind = _BY_CODE.get(str(problem.get("code"))) or _BY_STATUS.get(status) or _other(status)
    return kind(
        str(problem.get("detail") or f"the server answered {status}, and not as this API does"),
        code=str(problem.get("code") or f"http_{status}"),
        status=status,
        request_id=problem.get("request_id") or headers.get("X-Request-Id"),
        errors=problem.get("errors") or (),
        retryable=bool(problem.get("retryable")),
        retry_after=retry_after_seconds(headers.get("Retry-After")),
        extra={name: value for name, value in problem.items() if name not in _MEMBERS},
    )


def retry_after_seconds(value: str | None) -> float | None:
    """Return what ``Retry-After`` says, whether in seconds or as a date; None where it says nothing sensible."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        seconds = (moment - datetime.now(timezone.utc)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _other(status: int) -> type[DarkroomError]:
    if status >= 500:  # noqa: PLR2004  5xx: theirs
        return ServerFailed
    return InvalidRequest if status >= 400 else UnexpectedAnswer  # noqa: PLR2004  4xx: ours
