"""Many calls of one method as one: how the caller gathers them, and how the service answers each by itself.

Every call keeps its own outcome, correlation id and time; it knows neither the broker nor any method.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from shared import budget, logs, problems
from shared.database import is_unavailable
from shared.gathering import MOST, Gathering, taken_apart
from shared.problems import Problem, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
Size = Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call among many: its keyword arguments, its story, and when (monotonic) its caller gives up, if ever."""

    arguments: Mapping[str, Any]
    correlation_id: str | None = None
    deadline: float | None = None

    def packed(self) -> dict[str, Any]:
        """Return it as it travels; of its time only what is left."""
        left = None if self.deadline is None else max(0, int((self.deadline - time.monotonic()) * 1000))
        return {"arguments": self.arguments, "correlation_id": self.correlation_id, "budget_ms": left}


def call_of(arguments: Mapping[str, Any]) -> Call:
    """Return a call made now, in the current context."""
    limit = budget.limit_seconds()
    deadline = None if limit is None else time.monotonic() + limit
    return Call(arguments=arguments, correlation_id=logs.correlation()[0], deadline=deadline)


@dataclass(frozen=True, kw_only=True)
class Gathers:
    """Says that the calls of a method may go together, to its ``twin``; ``size`` is of `GatheredCalls`."""

    twin: str
    size: Size = lambda _: 1


class GatheredCalls:
    """Calls of one method of another service: those that come while one is under way go together, as one call.

    A call that finds nothing under way goes alone and at once, to the method itself.

    Args:
        one: calls the method with keyword arguments.
        many: calls its twin that takes ``calls`` (see `answers_to`) and returns an answer for each.
        size: how much of a batch's 100 the call with these arguments takes. One larger than that gathers with nobody:
            it would keep all others waiting.
    """

    def __init__(self, one: Callable[..., Any], many: Callable[..., Any], *, size: Size = lambda _: 1) -> None:
        self._one = one
        self._many = many
        self._size = size
        self._gathering: Gathering[None, Call, Any] = Gathering(self._run, size=lambda call: size(call.arguments))

    def __call__(self, **arguments: Any) -> Any:
        """Return the method's answer.

        Raises:
            Problem: its refusal.
            Unavailable: no answer came within the caller's time.
        """
        if self._size(arguments) > MOST:
            return self._one(**arguments)
        try:
            return self._gathering(None, call_of(arguments))
        except budget.TimeLimitExceeded as error:
            raise Unavailable(retry_after=1) from error

    def _run(self, _key: None, calls: Sequence[Call]) -> Sequence[Any]:
        if len(calls) == 1:
            return [self._one(**calls[0].arguments)]
        try:
            answers = self._many(calls=[call.packed() for call in calls])
        except Unavailable as error:
            return [error] * len(calls)
        return outcomes_of(answers)


def outcomes_of(answers: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what the answers to many calls say: the result of each, or its `Problem`."""
    return [problems.from_dict(each["problem"]) if "problem" in each else each["result"] for each in answers]


def answers_to(
    calls: Sequence[Mapping[str, Any]],
    *,
    read: Callable[[Call], T],
    run: Callable[[Sequence[T]], Sequence[Any]],
) -> list[dict[str, Any]]:
    """Answer many calls of one method, packed by their caller, each with ``{result}`` or ``{problem}``.

    Args:
        calls: as `Call.packed` makes them.
        read: makes of a call what ``run`` takes; what it raises is that call's answer.
        run: does them all; returns a result or an exception for each. What it raises undoes all it did: then each is
            run alone, in its own story.

    A call whose time was used up on the way has nobody waiting for it, and is not begun.
    """
    spent = _spent_seconds(calls)
    outcomes: dict[int, Any] = {}
    items: list[tuple[int, Call, T]] = []
    for place, packed in enumerate(calls):
        call = Call(arguments=packed["arguments"], correlation_id=packed.get("correlation_id"))
        limit = packed.get("budget_ms")
        try:
            if limit is not None and limit / 1000 <= spent:
                raise Unavailable(retry_after=1)  # noqa: TRY301  answered as what read() raises
            items.append((place, call, read(call)))
        except Exception as error:  # noqa: BLE001  it is the answer
            outcomes[place] = error

    def together(some: Sequence[tuple[int, Call, T]]) -> Sequence[Any]:
        alone = some[0][1].correlation_id if len(some) == 1 else None
        with logs.bound(correlation_id=alone):
            return run([item for _, _, item in some])

    done = taken_apart(together, items)
    outcomes.update({place: outcome for (place, _, _), outcome in zip(items, done, strict=True)})
    return [answer_of(outcomes[place]) for place in range(len(calls))]


def answer_of(outcome: Any, *, method: str | None = None) -> dict[str, Any]:
    """Return an outcome as it travels: ``{result}``, or the ``{problem}`` that stands for whatever was raised."""
    if not isinstance(outcome, Exception):
        return {"result": outcome}
    if isinstance(outcome, Problem):
        return {"problem": outcome.as_dict()}
    if is_unavailable(outcome):
        log.warning("rpc_method_unavailable", method=method, error_type=type(outcome).__name__)
        return {"problem": Unavailable(retry_after=1).as_dict()}
    log.error("rpc_method_failed", method=method, exc_info=outcome)
    return {"problem": Problem().as_dict()}


def _spent_seconds(calls: Sequence[Mapping[str, Any]]) -> float:
    """Return how much of their time the calls spent on the way: the request had that of the most patient of them."""
    limits: list[int] = [packed["budget_ms"] for packed in calls if packed.get("budget_ms") is not None]
    left = budget.limit_seconds()
    if left is None or len(limits) < len(calls):
        return 0.0
    return max(0.0, max(limits, default=0) / 1000 - left)
