"""What a provider may answer, and what follows: the rules, as a function from an outcome to a decision. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from services.generation.failures import reason


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """An image a provider made, still as bytes."""

    data: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The provider did the work. ``model`` is what really ran; ``cost_microusd`` is known or the call was refused.

    The tokens are those the provider says it counted, None where it counts none.
    """

    images: tuple[MadeImage, ...] = ()
    result: dict[str, Any] | None = None
    model: str = ""
    cost_microusd: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The provider, or the way to it, said no; ``code`` is of the taxonomy, ``detail`` is for our log only.

    ``ran``: it had begun, and may bill it; else it is certain that it did not. ``cost_microusd`` is what it will have
    billed for work without a result, at most, and ``model`` what has done it, where that was told.
    """

    code: str
    detail: str
    retry_after_seconds: float | None = None
    ran: bool = False
    cost_microusd: int = 0
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The request went out and no answer came back: the provider may have done the work, and billed it.

    ``may_call_back``: it was told where to, and by that call the work can be known again.
    """

    detail: str
    may_call_back: bool = False


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """An asynchronous provider has taken the operation: from now on it is asked for by ``external_id``.

    ``external_id`` is the adapter's own writing and all that it needs to go on: store it whole, read nothing in it.
    """

    external_id: str
    phase: str = "queued"


@dataclass(frozen=True, kw_only=True)
class Running:
    """The provider is still at it, or could not be asked just now; ask again.

    ``phase`` is for people (``queued``, ``running``, ``collecting`` while the result is fetched). Not before
    ``poll_after_seconds``, where the provider wants to be left alone for so long.
    """

    phase: str
    queue_position: int | None = None
    poll_after_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Absent:
    """The provider has been looked through: it never took the operation, and nothing was billed."""

    detail: str


Outcome = Answered | Refused | Lost
Submission = Submitted | Outcome
Progress = Running | Outcome
Found = Submitted | Absent | Lost

# What may be done when a request went out and no answer came: send it again (a second run bills nobody), look it up at
# the provider (`Asynchronous.find`), or give up.
AfterLostAnswer = Literal["resend", "lookup", "give_up"]


@dataclass(frozen=True, kw_only=True)
class Succeed:
    """Keep the answer."""

    answer: Answered


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Queue the operation again after a pause, with another seed if ``new_seed``: the same one fails again.

    At another provider where ``provider`` names one, with its ``model``.
    """

    after_seconds: float
    code: str
    detail: str
    new_seed: bool = False
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The operation, and its generation with it, has failed."""

    code: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class LookUp:
    """Nobody knows whether the provider has it: it is to be looked for there."""

    detail: str


@dataclass(frozen=True, kw_only=True)
class AwaitCall:
    """Nobody knows whether the provider has it, which will call if it does: until its time is up."""

    detail: str


Decision = Succeed | Repeat | GiveUp | LookUp | AwaitCall


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an attempt has used up, whatever it came to; None is not known."""

    model: str | None = None
    cost_microusd: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    digest: str | None = None


def spent(outcome: Outcome) -> Spent:
    """Return what the provider will have billed for ``outcome``, and the digest of what it answered."""
    if isinstance(outcome, Answered):
        digest = hashlib.sha256(repr(outcome.result).encode())
        for image in outcome.images:
            digest.update(image.data)
        return Spent(
            model=outcome.model,
            cost_microusd=_counted(outcome.cost_microusd, most=_MOST_MICROUSD),
            prompt_tokens=_counted(outcome.prompt_tokens, most=_MOST_TOKENS),
            completion_tokens=_counted(outcome.completion_tokens, most=_MOST_TOKENS),
            digest=digest.hexdigest(),
        )
    if isinstance(outcome, Refused):
        return Spent(model=outcome.model, cost_microusd=_counted(outcome.cost_microusd, most=_MOST_MICROUSD))
    return Spent()


# What the log has room for: a vendor may count as it likes.
_MOST_TOKENS = 2**31 - 1
_MOST_MICROUSD = 10**12


def _counted(said: object, *, most: int) -> int | None:
    """Return a number that a vendor has said, as the log keeps it; None for what is no number."""
    return min(max(said, 0), most) if isinstance(said, int) else None


def another_seed(seed: int, *, attempt: int) -> int:
    """Return the seed of the try after ``attempt``: another one, the same each time it is asked for."""
    digest = hashlib.sha256(f"{seed}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


_FIRST_POLL_SECONDS = 1.0
_SLOWEST_POLL_SECONDS = 15.0
# A provider that wants to be left alone for longer is asked all the same: its word must not hold a job up.
_LONGEST_SILENCE_SECONDS = 60.0


# A provider that calls back is asked for what it may have forgotten to tell.
_CALLED_BACK_POLL_SECONDS = 30.0


def next_poll_seconds(
    age_seconds: float, *, time_limit_seconds: float, wished_seconds: float | None = None, calls_back: bool = False
) -> float:
    """Return how long to wait before a provider is asked again about what it took ``age_seconds`` ago.

    Often at first, then less and less: a quarter of its age, and never more than a tenth of what it may take at all.
    Where its webhooks arrive they tell sooner than asking would: every 30 s then, or a quarter of what it may take.
    """
    slowest = max(_FIRST_POLL_SECONDS, min(_SLOWEST_POLL_SECONDS, time_limit_seconds / 10))
    wait = min(max(_FIRST_POLL_SECONDS, age_seconds / 4), slowest)
    if calls_back:
        wait = max(wait, min(_CALLED_BACK_POLL_SECONDS, time_limit_seconds / 4))
    return max(wait, min(wished_seconds or 0.0, _LONGEST_SILENCE_SECONDS))


# After an answer was lost that may be asked for again: mostly it was our own worker that died, and the next one is
# there at once; an operation that kills every worker must not do so for ever.
_RESEND_WAITS_SECONDS = (0.0, 1.0, 5.0, 5.0, 10.0)


def decide(outcome: Outcome, *, attempt: int, after_lost_answer: AfterLostAnswer, makes_image: bool) -> Decision:
    """Return what follows ``outcome`` of the ``attempt``-th try (from 1).

    Args:
        outcome: what the provider's adapter returned.
        attempt: how often the operation has been sent to this provider, this time included.
        after_lost_answer: the provider's `AfterLostAnswer`; a lost answer is never blindly sent again to one that
            bills.
        makes_image: whether an answer without image is a failure.
    """
    if isinstance(outcome, Answered):
        if makes_image and not outcome.images:
            waits = reason("no_image").waits_seconds
            return _again_or_not("no_image", "the answer holds no image", attempt=attempt, waits=waits)
        return Succeed(answer=outcome)
    if isinstance(outcome, Lost):
        if after_lost_answer == "lookup":
            return LookUp(detail=outcome.detail)
        if after_lost_answer == "give_up" and outcome.may_call_back:
            return AwaitCall(detail=outcome.detail)
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
    return Repeat(
        after_seconds=max(waits[attempt - 1], at_least), code=code, detail=detail, new_seed=reason(code).new_seed
    )
