"""Why a generation fails, in provider-neutral words: one table decides money, retries, fallback, and what users read.

docs/failures.md is printed from it. A failed generation is never charged. It must not know providers or tables.
"""

from dataclasses import dataclass
from typing import Literal

# What becomes of the credits: `refunded` with the failure; `held` until it is known how it ended, then refunded;
# `not_held` where none were ever taken.
Money = Literal["refunded", "held", "not_held"]
# May another provider of the route do it instead, where the first is known not to have run: `once`, one of them only.
Fallback = Literal["no", "once", "yes"]
# What operators are told of: a `rate` that rises, what lasts (`sustained`), what opens the `breaker`, an operation that
# is `overdue`, `cost` without a result, and what is to be looked at now (`page`).
Alert = Literal["none", "rate", "sustained", "breaker", "overdue", "cost", "page"]
# Whether the vendor may bill what comes to it: `each` time it is sent, or `once`, since it is not sent again then.
Billed = Literal["no", "once", "each"]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One row of the taxonomy.

    ``retryable``: whether the user may hope that the same request succeeds later. ``waits_seconds`` are the pauses
    before each automatic repetition at the same provider, with another seed if ``new_seed``: a repetition that costs
    money must have a chance to come to something else.
    """

    code: str
    message: str
    retryable: bool
    waits_seconds: tuple[float, ...] = ()
    new_seed: bool = False
    fallback: Fallback = "no"
    money: Money = "refunded"
    billed: Billed = "no"
    alert: Alert = "none"

    @property
    def bills_at_most(self) -> int:
        """How many bills of one vendor an operation can have led to that ends so, all tries having come to it."""
        return {"no": 0, "once": 1, "each": 1 + len(self.waits_seconds)}[self.billed]


_BUSY = "The AI service is busy. Please retry."
_DOWN = "AI service unavailable. Please retry."
_OURS = "Something is not set up right on our side. We have been told."

_REASONS = (
    Reason(
        code="invalid_input", message="The request did not fit what this product needs.", retryable=False, alert="rate"
    ),
    Reason(code="source_missing", message="The uploaded image is no longer there. Upload it again.", retryable=False),
    Reason(code="insufficient_credits", message="There were not enough credits.", retryable=True, money="not_held"),
    Reason(code="key_cap_reached", message="The API key's daily cap was used up.", retryable=True, money="not_held"),
    Reason(
        code="quota_exceeded", message="The plan's monthly allowance was used up.", retryable=True, money="not_held"
    ),
    Reason(
        code="daily_cap_reached", message="The day's processing limit was reached.", retryable=True, money="not_held"
    ),
    Reason(
        code="moderation_input",
        message="The AI service refused the request for its content. Change the picture or the wording.",
        retryable=False,
        fallback="once",
        alert="rate",
    ),
    Reason(
        code="moderation_output",
        message="The AI service withheld its result for its content. Please retry, or change the request.",
        retryable=True,
        waits_seconds=(1,),
        new_seed=True,
        fallback="once",
        alert="rate",
        billed="each",
    ),
    Reason(
        code="recitation",
        message="The AI service withheld a result that was too close to an existing work. Please retry.",
        retryable=True,
        waits_seconds=(1,),
        new_seed=True,
        fallback="yes",
        billed="each",
    ),
    Reason(
        code="no_image",
        message="The AI service made no image. Please retry.",
        retryable=True,
        waits_seconds=(1, 5),
        fallback="yes",
        alert="rate",
        billed="each",
        new_seed=True,
    ),
    Reason(
        code="rate_limited",
        message=_BUSY,
        retryable=True,
        waits_seconds=(5, 10),
        fallback="yes",
        alert="sustained",
    ),
    Reason(code="capacity", message=_BUSY, retryable=True, waits_seconds=(5, 10), fallback="yes", alert="sustained"),
    Reason(
        code="provider_error", message=_DOWN, retryable=True, waits_seconds=(5, 10), fallback="yes", alert="breaker"
    ),
    Reason(
        code="connect_failed", message=_DOWN, retryable=True, waits_seconds=(5, 10), fallback="yes", alert="breaker"
    ),
    Reason(
        code="outcome_unknown",
        message="The AI service did not answer. Please retry.",
        retryable=True,
        money="held",
        alert="overdue",
        billed="once",
    ),
    Reason(
        code="provider_timeout",
        message="The AI service took too long. Please retry.",
        retryable=True,
        waits_seconds=(5,),
        fallback="yes",
        alert="rate",
        billed="once",
    ),
    Reason(
        code="deadline_exceeded",
        message="This took longer than allowed and was ended.",
        retryable=True,
        alert="rate",
        billed="once",
    ),
    Reason(code="cancelled", message="Cancelled on request.", retryable=True, billed="once"),
    Reason(code="cancelled_before_start", message="Cancelled on request, before it was begun.", retryable=True),
    Reason(
        code="cancelled_running",
        message="Cancelled on request, while it was being made.",
        retryable=True,
        alert="cost",
        billed="each",
    ),
    Reason(code="model_retired", message=_OURS, retryable=False, fallback="yes", alert="page"),
    Reason(
        code="model_changed",
        message="The AI service answered with another model than was asked for. Please retry.",
        retryable=True,
        alert="page",
        billed="each",
    ),
    Reason(code="auth_failed", message=_OURS, retryable=False, fallback="yes", alert="page"),
    Reason(code="unpriceable", message=_OURS, retryable=False, fallback="yes", alert="page"),
    Reason(
        code="storage_failed",
        message="The result could not be stored. Please retry.",
        retryable=True,
        waits_seconds=(1, 5, 10),
        alert="page",
        billed="once",
    ),
    Reason(
        code="result_corrupt",
        message="The AI service returned no usable image. Please retry.",
        retryable=True,
        waits_seconds=(1,),
        fallback="yes",
        alert="rate",
        billed="each",
        new_seed=True,
    ),
    Reason(
        code="result_expired",
        message="The AI service no longer had the result when we came for it. Please retry.",
        retryable=True,
        alert="cost",
        billed="each",
    ),
    Reason(
        code="internal_error",
        message="Something went wrong on our side. Please retry.",
        retryable=True,
        alert="page",
    ),
)

TAXONOMY = {reason.code: reason for reason in _REASONS}
# How often one operation is sent to one provider, whatever comes of it; the store is not one.
SENDINGS_AT_MOST = 1 + max(len(reason.waits_seconds) for reason in _REASONS if reason.code != "storage_failed")
# Why credits were not held: these generations were never begun.
NOT_BEGUN = frozenset(reason.code for reason in _REASONS if reason.money == "not_held")


def reason(code: str) -> Reason:
    """Return the row for ``code``; an unknown code is our bug and reads as ``internal_error``."""
    return TAXONOMY.get(code, TAXONOMY["internal_error"])
