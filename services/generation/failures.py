"""Why a generation fails, in provider-neutral words: one table decides retries, and what the user is told.

A failed generation is never charged. It must not know providers or tables.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One row of the taxonomy; ``waits_seconds`` are the pauses before each automatic repetition."""

    code: str
    message: str
    retryable: bool
    waits_seconds: tuple[float, ...] = ()


_REASONS = (
    Reason(code="invalid_input", message="The request did not fit what this product needs.", retryable=False),
    Reason(code="source_missing", message="The uploaded image is no longer there. Upload it again.", retryable=False),
    Reason(code="insufficient_credits", message="There were not enough credits.", retryable=True),
    Reason(code="quota_exceeded", message="The plan's monthly allowance was used up.", retryable=True),
    Reason(code="key_cap_reached", message="The API key's daily cap was used up.", retryable=True),
    Reason(code="daily_cap_reached", message="The day's processing limit was reached.", retryable=True),
    Reason(code="rate_limited", message="The AI service is busy. Please retry.", retryable=True, waits_seconds=(5, 10)),
    Reason(code="capacity", message="The AI service is busy. Please retry.", retryable=True, waits_seconds=(5, 10)),
    Reason(
        code="provider_error", message="AI service unavailable. Please retry.", retryable=True, waits_seconds=(5, 10)
    ),
    Reason(
        code="connect_failed", message="AI service unavailable. Please retry.", retryable=True, waits_seconds=(5, 10)
    ),
    Reason(code="outcome_unknown", message="The AI service did not answer. Please retry.", retryable=True),
    Reason(
        code="provider_timeout",
        message="The AI service took too long. Please retry.",
        retryable=True,
        waits_seconds=(5,),
    ),
    Reason(code="deadline_exceeded", message="This took longer than allowed and was ended.", retryable=True),
    Reason(code="cancelled", message="Cancelled on request.", retryable=True),
    Reason(
        code="storage_failed",
        message="The result could not be stored. Please retry.",
        retryable=True,
        waits_seconds=(1, 5, 10),
    ),
    Reason(
        code="result_corrupt",
        message="The AI service returned no usable image. Please retry.",
        retryable=True,
        waits_seconds=(1,),
    ),
    Reason(code="internal_error", message="Something went wrong on our side. Please retry.", retryable=True),
)

# Why credits were not held: these generations were never begun.
NOT_BEGUN = frozenset({"insufficient_credits", "quota_exceeded", "daily_cap_reached", "key_cap_reached"})
TAXONOMY = {reason.code: reason for reason in _REASONS}


def reason(code: str) -> Reason:
    """Return the row for ``code``; an unknown code is our bug and reads as ``internal_error``."""
    return TAXONOMY.get(code, TAXONOMY["internal_error"])
