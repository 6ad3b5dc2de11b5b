"""How vendors are paid for: per image, per token, or as they say. In microdollars, millionths of a dollar. Pure.

What cannot be priced is refused, never counted as nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

_MILLION: Final = 1_000_000


class Unpriceable(LookupError):
    """No price is known for what is asked, or was done; the message names the model and what is missing."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a vendor says a call took; ``reported_microusd`` where it names the price itself."""

    images: int = 0
    text_input_tokens: int | None = None
    image_input_tokens: int = 0
    text_output_tokens: int = 0
    image_output_tokens: int = 0
    reported_microusd: int | None = None


class Price(Protocol):
    """How a model is paid for, in microdollars."""

    def expected(self, parameters: Mapping[str, Any]) -> int:
        """Return what one operation is expected to cost; raises Unpriceable for parameters without a price."""
        ...

    def of(self, usage: Usage) -> int:
        """Return what a call cost; raises Unpriceable where the vendor did not say what it took."""
        ...


@dataclass(frozen=True, kw_only=True)
class PerImage:
    """So much for every image made."""

    microusd: int

    def expected(self, _parameters: Mapping[str, Any]) -> int:
        """Return the price of one image."""
        return self.microusd

    def of(self, usage: Usage) -> int:
        """Return the price of the images made."""
        return self.microusd * usage.images


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The vendor names the price of a call in its answer; ``usual_microusd`` is what it mostly is."""

    usual_microusd: int

    def expected(self, _parameters: Mapping[str, Any]) -> int:
        """Return what it mostly is."""
        return self.usual_microusd

    def of(self, usage: Usage) -> int:
        """Return what the vendor says."""
        if usage.reported_microusd is None:
            raise Unpriceable("the vendor did not say what the call cost")
        return usage.reported_microusd


@dataclass(frozen=True, kw_only=True)
class PerToken:
    """Microdollars for a million tokens of each kind.

    ``usual`` is what one operation mostly takes, by the parameter ``quality`` (and ``medium`` where none is given).
    """

    text_input: int
    text_output: int
    image_input: int | None = None
    image_output: int = 0
    usual: Mapping[str, Usage]

    def expected(self, parameters: Mapping[str, Any]) -> int:
        """Return the price of the tokens an operation of that quality mostly takes."""
        quality = parameters.get("quality") or "medium"
        if quality not in self.usual:
            raise Unpriceable(f"no price for quality {quality!r}")
        return self.of(self.usual[quality])

    def of(self, usage: Usage) -> int:
        """Return the price of the tokens counted, rounded up."""
        if usage.text_input_tokens is None:
            raise Unpriceable("the vendor did not say how many tokens the call took")
        picture = self.text_input if self.image_input is None else self.image_input
        parts = (
            usage.text_input_tokens * self.text_input,
            usage.image_input_tokens * picture,
            usage.text_output_tokens * self.text_output,
            usage.image_output_tokens * self.image_output,
        )
        return -(-sum(parts) // _MILLION)
