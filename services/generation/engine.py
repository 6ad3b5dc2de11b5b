"""What the engine has to work with in one process: the providers that are set up, and which does which operation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from services.generation.providers import Provider, available
from shared.callbacks import Callbacks
from shared.config import Settings

LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Providers by name, and the routes: operation -> names of providers in order of preference.

    ``operations_per_organization`` of one organization may be at work at once, and ``open_generations`` of it may be
    open, which its own share may say otherwise. Of what test keys have asked for, ``open_test_generations`` may be.
    ``callbacks`` are where providers may call back, if they may. Analyses are known for as long as they are
    ``analyses_kept``.
    """

    providers: Mapping[str, Provider]
    routes: Mapping[str, Sequence[str]]
    operations_per_organization: int = 20
    open_generations: int = 20_000
    open_test_generations: int = 50
    callbacks: Callbacks | None = None
    analyses_kept: timedelta = timedelta(days=30)

    def callback_url(self, provider: str, *, operation_id: str) -> str | None:
        """Return where a provider that calls back may tell that it is done with an operation."""
        known = self.providers.get(provider)
        if known is None or not known.calls_back or self.callbacks is None:
            return None
        return self.callbacks.address(provider, operation_id=operation_id)

    def in_mode(self, *, livemode: bool) -> "Engine":
        """Return the engine as jobs of a live key have it, or those of a test key: `local` alone, one at a time."""
        if livemode:
            return self
        bills_nobody = {name: provider for name, provider in self.providers.items() if name == LOCAL}
        return replace(self, providers=bills_nobody, routes={}, operations_per_organization=1)


def engine_for(settings: Settings) -> Engine:
    """Build the engine of this process from its settings and the providers' keys in the environment."""
    return Engine(
        providers=available(),
        routes=settings.provider_routes,
        operations_per_organization=settings.operations_per_organization,
        open_generations=settings.open_generations,
        open_test_generations=settings.open_test_generations,
        callbacks=Callbacks(public_url=settings.public_url, secret=settings.signing_secret),
        analyses_kept=timedelta(days=settings.analysis_cache_days),
    )
