"""When a request is sent again, and after how long: pure rules, so that they can be read and tested by themselves."""

import random

from darkroom_client.errors import DarkroomError, NoAnswer, RateLimited, RequestInProgress, ServiceUnavailable

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
_JITTER = random.SystemRandom()  # several processes that fork from one would otherwise all come back together


def may_succeed_later(error: DarkroomError) -> bool:
    """Tell whether the same request, sent again in a moment, may well be answered."""
    if isinstance(error, NoAnswer):
        return error.retryable
    return isinstance(error, RateLimited | RequestInProgress | ServiceUnavailable)


def pause_seconds(error: DarkroomError, *, attempt: int) -> float:
    """Return how long to wait after the ``attempt``-th try: as told by the server, or longer each time; with jitter."""
    if error.retry_after is not None:
        return error.retry_after + _JITTER.uniform(0, min(1.0, error.retry_after / 4))
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt - 1, 10))
    return _JITTER.uniform(longest / 2, longest)
