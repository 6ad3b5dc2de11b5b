"""One operation from submission to result in one call, as tests of adapters take it. The engine has rows for that."""

import time
from collections.abc import Callable

from services.generation.operations import Lost, Outcome, Running, Submitted
from services.generation.providers import Asynchronous, Provider, Request

POLL_SECONDS = 1.0


def carry_out(
    provider: Provider,
    request: Request,
    *,
    sleep: Callable[[float], None] = time.sleep,
    poll_seconds: float = POLL_SECONDS,
) -> Outcome:
    """Submit ``request`` and poll until the provider has answered, or its time limit has passed (``Lost``)."""
    ends = time.monotonic() + provider.time_limit_seconds
    answer = provider.submit(request)
    if not isinstance(answer, Submitted):
        return answer
    if not isinstance(provider, Asynchronous):
        raise TypeError(f"{provider.name} takes operations but cannot be polled")
    while time.monotonic() < ends:
        progress = provider.poll(answer.external_id)
        if not isinstance(progress, Running):
            return progress
        sleep(max(poll_seconds, progress.poll_after_seconds or 0))
    return Lost(detail=f"no result within {provider.time_limit_seconds:g} s")
