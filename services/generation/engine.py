"""What the engine has to work with in one process: the providers that are set up, and which does which operation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.generation.providers import Provider, available
from shared.config import Settings


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Providers by name, and the routes: operation -> names of providers in order of preference.

    ``operations_per_organization`` of one organization may be at work at once.
    """

    providers: Mapping[str, Provider]
    routes: Mapping[str, Sequence[str]]
    operations_per_organization: int = 20


def engine_for(settings: Settings) -> Engine:
    """Build the engine of this process from its settings and the providers' keys in the environment."""
    return Engine(
        providers=available(),
        routes=settings.provider_routes,
        operations_per_organization=settings.operations_per_organization,
    )
