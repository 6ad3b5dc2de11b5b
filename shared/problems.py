"""Errors a caller is told about: one exception class per stable code, as RFC 9457 on HTTP and typed over RPC.

A class that only one service raises lives beside what raises it; those that cross a service border stand here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

_by_code: dict[str, type["Problem"]] = {}


class Problem(Exception):
    """An expected refusal. ``detail`` is written for the caller: what was wrong, where, and what to do.

    ``remedy`` is what whoever meets it can do, as documented for the code; ``standard_type`` is the URI of a problem
    type that somebody else has defined. ``extra`` holds further JSON members of the answer (``limit``, ``excess``,
    ``errors``); never a secret, never text that came from a database or a provider.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = "Send it again later; if it stays, ask about it and quote the request id."
    standard_type: ClassVar[str | None] = None

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extra = extra

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _by_code[cls.code] = cls

    def as_dict(self) -> dict[str, Any]:
        """Return the members that travel: ``{status, code, title, detail, retryable, **extra}``."""
        return {
            **self.extra,
            "status": self.status,
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "retryable": self.retryable,
        }


def kinds() -> Mapping[str, type[Problem]]:
    """Return every class of problem this process has loaded, by code."""
    return {Problem.code: Problem, **_by_code}


def from_dict(members: Mapping[str, Any]) -> Problem:
    """Rebuild the problem another service raised: the class of its code where known, else one made to measure."""
    extra = {
        key: value for key, value in members.items() if key not in {"status", "code", "title", "detail", "retryable"}
    }
    problem = (_by_code.get(str(members["code"])) or Problem)(str(members["detail"]), **extra)
    for name in ("status", "code", "title", "retryable"):
        setattr(problem, name, members[name])  # also right for a class this process has not loaded
    return problem


class BadRequest(Problem):
    """The request does not fit its schema; ``errors`` lists ``{pointer, code, detail}``."""

    status = 400
    code = "validation_failed"
    title = "The request is not valid"
    remedy = "Correct what `errors` points at, then send the request again."


class UnknownSku(BadRequest):
    """No price is in force for what was asked (``sku``), and nothing is free by default."""

    code = "unknown_sku"
    title = "There is no price for this"
    remedy = "Look up what can be asked for in `GET /v1/workflows`; where that lists it, tell us."


class Unauthenticated(Problem):
    """No credential, or one that is unknown, expired or revoked."""

    status = 401
    code = "unauthenticated"
    title = "A valid credential is needed"
    remedy = "Send a credential that is in force as `Authorization: Bearer …`."


class HoldRefused(Problem):
    """The hold was refused and nothing was written; ``max_affordable`` of the job's lines could be held."""

    status = 402
    code = "hold_refused"
    title = "This cannot be paid for"
    remedy = "Ask for less, or have the organization's plan or credits raised."


class InsufficientCredits(HoldRefused):
    """The wallet holds less; ``required`` and ``available`` are in ``unit``."""

    code = "insufficient_credits"
    title = "Not enough credits"
    remedy = "Ask for less, have credits granted, or send `on_insufficient: partial` or `pause`."


class QuotaExceeded(HoldRefused):
    """The plan allows fewer this month: of ``limit`` are ``used``, ``requested`` are asked for, until ``resets_at``."""

    code = "quota_exceeded"
    title = "The plan's monthly allowance does not suffice"
    remedy = "Wait until `resets_at`, take a larger plan, or send `on_insufficient: partial` or `pause`."


class DailyCapReached(HoldRefused):
    """What the organization's work may cost us in a day is used up until ``resets_at``."""

    code = "daily_cap_reached"
    title = "Today's processing limit is reached"
    remedy = "Send the request again after `resets_at`."
    retryable = True


class KeyCapReached(HoldRefused):
    """The API key may use fewer credits today: of ``limit`` are ``used``, ``requested`` are asked for."""

    code = "key_cap_reached"
    title = "The API key's daily cap does not suffice"
    remedy = "Ask for less, use another key, or send the request again after `resets_at`."
    retryable = True


class Forbidden(Problem):
    """The credential is good, but not for this."""

    status = 403
    code = "forbidden"
    title = "This credential may not do that"
    remedy = "Use a credential with the role or scope for this, or ask the organization's owner."


class NotFound(Problem):
    """There is no such thing, or it belongs to another organization: the answer is the same."""

    status = 404
    code = "not_found"
    title = "There is no such thing here"
    remedy = "Check the address and the id, and that the credential is of the organization it belongs to."


class Conflict(Problem):
    """The thing is in a state that does not allow this."""

    status = 409
    code = "conflict"
    title = "The current state does not allow this"
    remedy = "Read the thing again and decide by its current state; `detail` says what stood in the way."


class SkuTaken(Conflict):
    """Another product of the organization, in the same mode, has the SKU: that is ``product_id``."""

    code = "sku_taken"
    title = "Another product has this SKU"
    remedy = (
        "Change the product `product_id`, or send it whole to `PUT /v1/products/by-sku/{sku}`; or take another SKU."
    )


class UploadInUse(Conflict):
    """Views of products show the upload; ``product_ids`` names some of these products."""

    code = "upload_in_use"
    title = "Products show this upload"
    remedy = "Delete the products in `product_ids` first; their views go with them."


class SourceGone(Problem):
    """What was uploaded is deleted by now; ``deleted_at`` and ``reason`` say since when and why."""

    status = 410
    code = "source_gone"
    title = "The original was deleted"
    remedy = "Upload the photo again and submit a new job; with `keep_original=true` it stays until you delete it."


class ConsentRequired(Conflict):
    """The original is a face that nobody has agreed to keep: it is not shown beside what was made of it."""

    code = "consent_required"
    title = "The original is not kept for comparison"
    remedy = "Upload the photo with `keep_original=true`, which is the consent to keep it, and make a headshot of that."


class JobClosed(Conflict):
    """The job has ended, or is known under another organization; it takes no further lines."""

    code = "job_closed"
    title = "The job has already ended"
    remedy = "Look the job up to see how it ended; ask for a new one where that is wanted."


class StepNotAllowed(Conflict):
    """A session is at another step: ``session_status`` says at which, ``allowed`` what may be done there."""

    code = "step_not_allowed"
    title = "The session does not allow this step now"
    remedy = "Read the session again; do one of `allowed`, which its `next_actions` spell out."


class QuoteExpired(Conflict):
    """The quote was good for 15 minutes, and they are over."""

    code = "quote_expired"
    title = "The quote has expired"
    remedy = "Ask for a new quote, or leave `quote_id` out."


class QuoteUsed(Conflict):
    """The quote belongs to another job: a quote is good for one."""

    code = "quote_used"
    title = "The quote was used for another job"
    remedy = "Ask for a new quote for each job."


class UnsubscribeInvalid(BadRequest):
    """The token was altered, or never ours, or its mail is too old."""

    code = "unsubscribe_invalid"
    title = "This link is not valid"
    remedy = "Change your notification settings after logging in instead."


class PreconditionFailed(Problem):
    """What was to be changed is not as the client saw it (If-Match); ``current`` is how it is now, ``etag`` its tag."""

    status = 412
    code = "precondition_failed"
    title = "It has changed since you looked"
    remedy = "Decide by `current`; then send the request again with `etag` in If-Match."


class QuoteMismatch(Problem):
    """The quote was made for another workflow or other inputs."""

    status = 422
    code = "quote_mismatch"
    title = "The quote is for something else"
    remedy = "Send the workflow and inputs the quote was made for, or ask for a new quote."


class LimitExceeded(Problem):
    """A named limit was passed; ``limit`` and ``excess`` say by how much."""

    status = 422
    code = "limit_exceeded"
    title = "A limit was exceeded"
    remedy = "Ask for less: `limit` says how much there may be, `excess` by how much it was passed."


class Unavailable(Problem):
    """A service or a dependency behind this one did not answer in time; trying again may work."""

    status = 503
    code = "service_unavailable"
    title = "A part of the system does not answer right now"
    remedy = "Send the same request again after `Retry-After` seconds, with the same Idempotency-Key."
    retryable = True
