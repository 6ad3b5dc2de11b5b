"""What follows from a receiver's answer to a webhook. Pure: neither a clock nor a table is known here.

The schedule and the meaning of each status are those of Standard Webhooks 1.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

# The wait before each attempt: 75 h 35 min from the first to the last.
SCHEDULE_SECONDS: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 86_400
SLOW_SECONDS: Final = 5.0
_ASKS_FOR_PATIENCE: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a receiver answered: ``status`` is None where nothing came, and ``error`` says in our words why.

    ``ours`` says that nothing was sent, for a reason that is not the receiver's; where that passes by itself,
    ``later_seconds`` is when to try, and this was no attempt.
    """

    status: int | None
    seconds: float
    error: str | None = None
    retry_after: str | None = None
    excerpt: str = ""
    ours: bool = False
    later_seconds: float | None = None


@dataclass(frozen=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, kw_only=True)
class Again:
    """It is sent once more after ``seconds``; ``pause_seconds`` is how long the receiver wants nothing at all."""

    seconds: float
    pause_seconds: float
    failure: str


@dataclass(frozen=True, kw_only=True)
class Postponed:
    """Nothing was sent, which is our affair: it is tried after ``seconds``, and has as many attempts left as before."""

    seconds: float
    failure: str


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """It is not sent again; where ``gone``, the receiver wants nothing ever again."""

    failure: str
    gone: bool = False


Decision = Delivered | Again | Postponed | GivenUp


def decide(answer: Answer, *, attempt: int, now: datetime, jitter: float = 0.0) -> Decision:
    """Return what follows from the answer to attempt number ``attempt``.

    Args:
        answer: what came back.
        attempt: 1 for the first.
        now: to read a date in Retry-After.
        jitter: between -1 and 1, drawn by the caller, so that many that failed together do not come back together.
    """
    if answer.status is not None and HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered()
    failure = answer.error or f"status {answer.status}"
    if answer.later_seconds is not None:
        return Postponed(seconds=answer.later_seconds * (1 + JITTER * jitter), failure=failure)
    if answer.status == HTTPStatus.GONE:
        return GivenUp(failure=failure, gone=True)
    if attempt >= len(SCHEDULE_SECONDS):
        return GivenUp(failure=failure)
    pause = _pause_seconds(answer, now=now)
    planned = SCHEDULE_SECONDS[attempt] * (1 + JITTER * jitter)
    return Again(seconds=max(planned, pause), pause_seconds=pause, failure=failure)


def is_slow(answer: Answer) -> bool:
    """Tell whether a receiver takes so long that it may hold few of the deliveries under way."""
    return answer.seconds >= SLOW_SECONDS


def _pause_seconds(answer: Answer, *, now: datetime) -> float:
    """Return how long the receiver asks to be left alone, a day at most; it may write whatever it likes."""
    if answer.status not in _ASKS_FOR_PATIENCE or not answer.retry_after:
        return 0.0
    text = answer.retry_after.strip()
    if _SECONDS.fullmatch(text):
        return float(min(int(text), LONGEST_PAUSE_SECONDS))
    try:
        until = parsedate_to_datetime(text)
        seconds = (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), float(LONGEST_PAUSE_SECONDS))
