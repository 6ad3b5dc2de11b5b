"""AI providers: one module each. The engine calls `Provider.call` and gets an outcome, never an exception to guess at.

A provider module has a ``create(environment)`` that returns its `Provider`, or None where no key is set.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from services.generation.operations import Outcome

MODULES = ("local",)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a provider is asked to do. ``sources`` are the bytes of the images the operation works on."""

    operation_id: str
    name: str
    prompt: str
    model: str
    seed: int
    sources: Sequence[bytes] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Provider(Protocol):
    """One vendor's adapter. All its clients are built once per process.

    ``after_lost_answer``: what may be done when a request went out and no answer came: ``resend`` where a second run
    bills nobody, else ``give_up``. ``concurrency`` bounds its calls across all workers. ``cost_microusd`` is what one
    operation is expected to cost us.
    """

    name: str
    model: str
    operations: frozenset[str]
    after_lost_answer: str
    time_limit_seconds: float
    concurrency: int
    cost_microusd: int

    def call(self, request: Request) -> Outcome:
        """Do the operation and return how it went; it raises only for our own bugs."""
        ...


def available(environment: Mapping[str, str] | None = None) -> dict[str, Provider]:
    """Return the providers this process can use, by name."""
    settings = os.environ if environment is None else environment
    made = [import_module(f"{__name__}.{name}").create(settings) for name in MODULES]
    return {provider.name: provider for provider in made if provider is not None}


def route(operation: str, *, routes: Mapping[str, Sequence[str]], providers: Mapping[str, Provider]) -> Provider:
    """Return the first provider of the operation's route that is available; ``local`` does what has no route.

    Raises:
        LookupError: no available provider does it; the message names the operation and the route.
    """
    for name in routes.get(operation, ("local",)):
        if name in providers and operation in providers[name].operations:
            return providers[name]
    raise LookupError(f"no available provider does {operation}; PROVIDER_ROUTES says {routes.get(operation)}")
