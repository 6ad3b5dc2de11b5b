"""What follows when a provider has answered: the rules, as a function from an outcome to a decision. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.generation.failures import reason


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """An image a provider made, still as bytes."""

    data: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The provider did the work. ``model`` is what really ran; ``cost_microusd`` is known or the call was refused."""

    images: tuple[MadeImage, ...] = ()
    result: dict[str, Any] | None = None
    model: str = ""
    cost_microusd: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The provider, or the way to it, said no; ``code`` is of the taxonomy, ``detail`` is for our log only."""

    code: str
    detail: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The request went out and no answer came back: the provider may have done the work, and billed it."""

    detail: str


Outcome = Answered | Refused | Lost


@dataclass(frozen=True, kw_only=True)
class Succeed:
    """Keep the answer."""

    answer: Answered


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Queue the operation again after a pause."""

    after_seconds: float
    code: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The operation, and its generation with it, has failed."""

    code: str
    detail: str


Decision = Succeed | Repeat | GiveUp

# After an answer was lost that may be asked for again: mostly it was our own worker that died, and the next one is
# there at once; an operation that kills every worker must not do so for ever.
_RESEND_WAITS_SECONDS = (0.0, 1.0, 5.0, 5.0, 10.0)


def decide(outcome: Outcome, *, attempt: int, after_lost_answer: str, makes_image: bool) -> Decision:
    """Return what follows ``outcome`` of the ``attempt``-th try (from 1).

    Args:
        outcome: what the provider's adapter returned.
        attempt: how often the operation has been sent, this time included.
        after_lost_answer: the provider's ``resend`` or ``give_up``; a lost answer is never blindly sent again
            to one that bills.
        makes_image: whether an answer without image is a failure.
    """
    if isinstance(outcome, Answered):
        if makes_image and not outcome.images:
            waits = reason("result_corrupt").waits_seconds
            return _again_or_not("result_corrupt", "the answer holds no image", attempt=attempt, waits=waits)
        return Succeed(answer=outcome)
    if isinstance(outcome, Lost):
        waits = _RESEND_WAITS_SECONDS if after_lost_answer == "resend" else ()
        return _again_or_not("outcome_unknown", outcome.detail, attempt=attempt, waits=waits)
    waits = reason(outcome.code).waits_seconds
    return _again_or_not(
        outcome.code, outcome.detail, attempt=attempt, waits=waits, at_least=outcome.retry_after_seconds or 0
    )


def _again_or_not(
    code: str, detail: str, *, attempt: int, waits: Sequence[float], at_least: float = 0
) -> Repeat | GiveUp:
    if attempt > len(waits):
        return GiveUp(code=code, detail=detail)
    return Repeat(after_seconds=max(waits[attempt - 1], at_least), code=code, detail=detail)
