"""The models we use: what each does, from when to when, and what it costs us. A table in code, and pure functions.

A model is named by the id its vendor resolves to the same weights for good; aliases are for people. Prices are the
vendors' list prices, by date.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from services.generation.pricing import PerImage, PerToken, Price, Reported, Unpriceable, Usage

SUNSET_NOTICE: Final = timedelta(days=30)
# A number of three digits up, a date, or a digest: `-001`, `-2026-03-17`, `-09-2026`, `@20260317`, `:5c7d…`.
_VERSION: Final = re.compile(
    r"[-@:](?:[0-9]{3,8}|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{2}-[0-9]{4}|[0-9a-f]{32,64})", re.ASCII
)


class NoModel(LookupError):
    """The registry has no such model, or none that may be used on that day."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A vendor's model. It may be used from ``valid_from`` until the day before ``sunset``.

    ``prices`` are ``(from, price)``, oldest first.
    """

    provider: str
    id: str
    operations: frozenset[str]
    prices: Sequence[tuple[date, Price]]
    valid_from: date
    sunset: date | None = None
    replacement: str | None = None
    aliases: frozenset[str] = field(default_factory=frozenset)

    def is_valid(self, on: date) -> bool:
        """Return whether it may be used that day."""
        return self.valid_from <= on and (self.sunset is None or on < self.sunset)

    def price(self, on: date) -> Price:
        """Return its price that day; raises Unpriceable if there is none."""
        found = [price for since, price in self.prices if since <= on]
        if not found:
            raise Unpriceable(f"no price is known for {self.provider} {self.id} on {on}")
        return found[-1]


_IMAGES: Final = frozenset(
    {
        "image.stage",
        "image.empty_room",
        "image.product_scene",
        "image.headshot",
        "image.close_up",
        "image.sketch",
        "image.edit",
    }
)
_ANALYSES: Final = frozenset(
    {
        "vision.analyze",
        "vision.category",
        "vision.edit",
        "vision.measure",
        "vision.plan",
        "vision.product",
        "text.analyze",
    }
)

# One photo in, one picture of about a megapixel out, by quality: list prices divided by the price of a token.
_GPT_IMAGE_USUAL: Final = {
    "low": Usage(text_input_tokens=150, image_input_tokens=1500, image_output_tokens=200),
    "medium": Usage(text_input_tokens=150, image_input_tokens=1500, image_output_tokens=1770),
    "high": Usage(text_input_tokens=150, image_input_tokens=1500, image_output_tokens=7040),
}
_GEMINI_IMAGE_USUAL: Final = {
    quality: Usage(text_input_tokens=150, image_input_tokens=1100, image_output_tokens=1120)
    for quality in ("low", "medium", "high")
}
_ANALYSIS_USUAL: Final = {
    quality: Usage(text_input_tokens=600, image_input_tokens=1250, text_output_tokens=500)
    for quality in ("low", "medium", "high")
}
_FLUX_KONTEXT_SINCE: Final = date(2025, 5, 29)
_GPT_IMAGE_SINCE: Final = date(2026, 9, 8)
_GEMINI_IMAGE_SINCE: Final = date(2026, 5, 28)

# Of one provider's models for an operation the first that is valid is used. Dead ones stay, so that a name from before
# is told from a name that never was.
MODELS: Final[Sequence[Model]] = (
    Model(
        provider="replicate",
        id="black-forest-labs/flux-kontext-pro",
        aliases=frozenset({"flux-kontext-pro"}),
        operations=_IMAGES,
        valid_from=_FLUX_KONTEXT_SINCE,
        prices=((_FLUX_KONTEXT_SINCE, PerImage(microusd=40_000)),),
    ),
    Model(
        provider="fal",
        id="fal-ai/flux-pro/kontext",
        aliases=frozenset({"flux-kontext-pro"}),
        operations=_IMAGES,
        valid_from=_FLUX_KONTEXT_SINCE,
        prices=((_FLUX_KONTEXT_SINCE, PerImage(microusd=40_000)),),
    ),
    Model(
        provider="getimg",
        id="stable-diffusion-xl-v1-0",
        aliases=frozenset({"sdxl"}),
        operations=_IMAGES,
        valid_from=date(2023, 9, 1),
        prices=((date(2023, 9, 1), Reported(usual_microusd=20_000)),),
    ),
    Model(
        provider="openai",
        id="gpt-image-2.5-flare-2026-09-08",
        aliases=frozenset({"gpt-image-2.5-flare"}),
        operations=_IMAGES,
        valid_from=_GPT_IMAGE_SINCE,
        prices=(
            (
                _GPT_IMAGE_SINCE,
                PerToken(
                    text_input=5_000_000,
                    text_output=10_000_000,
                    image_input=8_000_000,
                    image_output=30_000_000,
                    usual=_GPT_IMAGE_USUAL,
                ),
            ),
        ),
    ),
    Model(
        provider="openai",
        id="gpt-image-1",
        operations=_IMAGES,
        valid_from=date(2025, 4, 23),
        sunset=date(2026, 10, 23),
        replacement="gpt-image-2.5-flare-2026-09-08",
        prices=(),
    ),
    Model(
        provider="openai",
        id="gpt-5.4-mini-2026-03-17",
        aliases=frozenset({"gpt-5.4-mini"}),
        operations=_ANALYSES,
        valid_from=date(2026, 3, 17),
        prices=((date(2026, 3, 17), PerToken(text_input=750_000, text_output=4_500_000, usual=_ANALYSIS_USUAL)),),
    ),
    Model(
        provider="gemini",
        id="gemini-3.1-flash-image",
        operations=_IMAGES,
        valid_from=_GEMINI_IMAGE_SINCE,
        prices=(
            (
                _GEMINI_IMAGE_SINCE,
                PerToken(text_input=500_000, text_output=3_000_000, image_output=60_000_000, usual=_GEMINI_IMAGE_USUAL),
            ),
        ),
    ),
    Model(
        provider="gemini",
        id="gemini-2.5-flash-image",
        operations=_IMAGES,
        valid_from=date(2025, 10, 2),
        sunset=date(2026, 10, 2),
        replacement="gemini-3.1-flash-image",
        prices=(),
    ),
    Model(
        provider="gemini",
        id="gemini-3.8-flash",
        operations=_ANALYSES,
        valid_from=date(2026, 9, 2),
        prices=(
            (date(2026, 9, 2), PerToken(text_input=750_000, text_output=3_750_000, usual=_ANALYSIS_USUAL)),
            (date(2027, 1, 1), PerToken(text_input=1_500_000, text_output=7_500_000, usual=_ANALYSIS_USUAL)),
        ),
    ),
    Model(
        provider="local",
        id="local-preview-1",
        operations=_IMAGES | _ANALYSES,
        valid_from=date(2026, 1, 1),
        prices=((date(2026, 1, 1), PerImage(microusd=0)),),
    ),
)


def find(provider: str, name: str, *, models: Sequence[Model] | None = None) -> Model:
    """Return a provider's model by its id or an alias.

    Raises:
        NoModel: the registry has none of that name.
    """
    for model in _known(models):
        if model.provider == provider and (name == model.id or name in model.aliases):
            return model
    raise NoModel(f"the model registry has no {provider} model {name!r}")


def is_same(provider: str, *, asked: str, said: str, models: Sequence[Model] | None = None) -> bool:
    """Return whether ``said``, by which a provider calls what has answered, is the model ``asked`` for.

    That is its id, an alias, or its id with a version behind it, to which the vendor has resolved it; nothing said is
    taken for that too. What is more, is less, or is of another date is another model.
    """
    said = said.removeprefix("models/")  # as Google writes names of resources
    if not said or said == asked:
        return True
    known = [model for model in _known(models) if model.provider == provider and model.id == asked]
    if any(said in model.aliases for model in known):
        return True
    return said.startswith(asked) and _VERSION.fullmatch(said[len(asked) :]) is not None


def model_for(provider: str, operation: str, *, on: date, models: Sequence[Model] | None = None) -> Model:
    """Return the provider's model for ``operation``: the first of the table that may be used that day.

    Raises:
        NoModel: there is none.
    """
    for model in _known(models):
        if model.provider == provider and operation in model.operations and model.is_valid(on):
            return model
    raise NoModel(f"no {provider} model does {operation} on {on}")


def models_of(provider: str, operation: str, *, models: Sequence[Model] | None = None) -> list[Model]:
    """Return the provider's models for ``operation``, valid or not."""
    return [model for model in _known(models) if model.provider == provider and operation in model.operations]


def operations_of(provider: str, *, models: Sequence[Model] | None = None) -> frozenset[str]:
    """Return every operation for which the registry has a model of the provider."""
    return frozenset(name for model in _known(models) if model.provider == provider for name in model.operations)


def prices_of(provider: str, *, on: date, models: Sequence[Model] | None = None) -> list[Price]:
    """Return what the provider's models cost that day, dead ones without a price left out."""
    return [
        model.price(on)
        for model in _known(models)
        if model.provider == provider and any(since <= on for since, _ in model.prices)
    ]


def sunsets(today: date, *, models: Sequence[Model] | None = None) -> list[Model]:
    """Return the models in use that end within 30 days, soonest first: those an operator is to be told of."""
    ending = [
        (model.sunset, model)
        for model in _known(models)
        if model.is_valid(today) and model.sunset is not None and model.sunset - today <= SUNSET_NOTICE
    ]
    return [model for _, model in sorted(ending, key=lambda pair: pair[0])]


def _known(models: Sequence[Model] | None) -> Sequence[Model]:
    return MODELS if models is None else models
