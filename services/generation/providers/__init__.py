"""AI providers: one module each. The engine submits and polls, and gets outcomes, never an exception to guess at.

A provider module has a ``create(environment)`` that returns its `Provider`, or None where no key is set.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from services.generation.failures import reason
from services.generation.operations import AfterLostAnswer, Found, Outcome, Progress, Refused, Submission, Submitted

MODULES = ("local", "replicate", "fal", "openai", "gemini", "getimg")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a provider is asked to do. ``sources`` are the bytes of the images the operation works on.

    ``model`` is what `Provider.model_for` said when the operation was planned; no other is ever used in its place.
    ``callback_url`` may be given to a provider that `calls_back`: its call is a hint to poll, nothing more.
    """

    operation_id: str
    name: str
    prompt: str
    model: str
    seed: int
    sources: Sequence[bytes] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    callback_url: str | None = None


class Provider(Protocol):
    """One vendor's adapter. All its clients are built once per process.

    ``concurrency`` bounds its operations across all workers, from sent to answered, and ``requests_per_minute`` (None:
    no such limit) how many are sent. ``time_limit_seconds`` is how long after sending an answer may still come.
    ``calls_back``: it can be given a `Request.callback_url`.
    """

    name: str
    after_lost_answer: AfterLostAnswer
    time_limit_seconds: float
    concurrency: int
    requests_per_minute: int | None
    calls_back: bool

    @property
    def operations(self) -> frozenset[str]:
        """What it does; a vendor may lose an operation overnight, with the last model for it."""
        ...

    def model_for(self, operation: str) -> str:
        """Return the id of the model that does ``operation`` today."""
        ...

    def expected_cost_microusd(self, operation: str, parameters: Mapping[str, Any]) -> int:
        """Return what one operation is expected to cost us."""
        ...

    def submit(self, request: Request) -> Submission:
        """Send the operation, once; it raises only for our own bugs.

        A synchronous provider answers here. An `Asynchronous` one mostly gives `Submitted`, and may answer at once.
        ``Refused`` says that there will be no result, and whether it ``ran``; ``Lost`` that nobody knows.
        """
        ...


@runtime_checkable
class Asynchronous(Provider, Protocol):
    """A provider that takes an operation and is asked for its result later, by any process."""

    def poll(self, external_id: str) -> Progress:
        """Return how far it is, the images' bytes included when it is done. It may be repeated at will.

        What keeps us from asking (a network, a provider that is down) is ``Running``: asking again is all there is to
        do. ``Lost`` says that the provider no longer knows it.
        """
        ...

    def find(self, operation_id: str, *, sent_at: datetime) -> Found:
        """Look for an operation whose `submit` was lost, where ``after_lost_answer`` is ``lookup``.

        ``Lost`` says that it cannot be told, or not yet; ``Absent`` that it is certainly not there.
        """
        ...

    def known_as(self, work_id: object, *, model: str) -> Submitted | None:
        """Return by what to ask for work of ``model`` that a verified webhook names; None where that is no name."""
        ...

    def cancel(self, external_id: str) -> bool:
        """Ask the provider to stop; return whether it took the wish. What it had done by then may be billed."""
        ...


@runtime_checkable
class KeepsSources(Protocol):
    """A provider that pictures are uploaded to before they are worked on, and where a crash may leave them."""

    def forget_old_sources(self) -> None:
        """Delete there what no operation needs any more; it may be repeated at will, by several at once."""
        ...


def forget_old_sources(providers: Mapping[str, Provider]) -> None:
    """Have all providers delete what a crash has left there of pictures."""
    for provider in providers.values():
        if isinstance(provider, KeepsSources):
            provider.forget_old_sources()


def available(environment: Mapping[str, str] | None = None) -> dict[str, Provider]:
    """Return the providers this process can use, by name; a vendor's SDK is loaded only where there is a key for it."""
    settings = os.environ if environment is None else environment
    names = [name for name in MODULES if name == "local" or settings.get(f"PROVIDER_{name.upper()}_API_KEY")]
    made = [import_module(f"{__name__}.{name}").create(settings) for name in names]
    return {provider.name: provider for provider in made if provider is not None}


def candidates(
    operation: str, *, routes: Mapping[str, Sequence[str]], providers: Mapping[str, Provider]
) -> list[Provider]:
    """Return the available providers of the operation's route, best first; ``local`` does what has no route.

    The first does it. The others are there for when that one is known not to have run: see `fallback`.
    """
    names = dict.fromkeys(routes.get(operation, ("local",)))
    return [providers[name] for name in names if name in providers and operation in providers[name].operations]


def route(operation: str, *, routes: Mapping[str, Sequence[str]], providers: Mapping[str, Provider]) -> Provider:
    """Return the first of `candidates`.

    Raises:
        LookupError: no available provider does it; the message names the operation and the route.
    """
    found = candidates(operation, routes=routes, providers=providers)
    if not found:
        raise LookupError(f"no available provider does {operation}; PROVIDER_ROUTES says {routes.get(operation)}")
    return found[0]


def fallback(
    operation: str,
    outcome: Outcome,
    *,
    tried: Sequence[str],
    routes: Mapping[str, Sequence[str]],
    providers: Mapping[str, Provider],
) -> Provider | None:
    """Return who may do ``operation`` instead, now that the last of ``tried`` (names) has come to ``outcome``.

    None where no other may: the provider has run or might have (a second one would make a second bill), the taxonomy
    says that no other would do better, or nobody is left in the route. It is the route that opts in: one that names
    one provider has no fallback.
    """
    if not isinstance(outcome, Refused) or outcome.ran:
        return None
    allowed = reason(outcome.code).fallback
    if allowed == "no" or (allowed == "once" and len(tried) > 1):
        return None
    left = candidates(operation, routes=routes, providers=providers)
    return next((provider for provider in left if provider.name not in tried), None)
