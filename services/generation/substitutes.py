"""An answer by another model than was asked for is no answer: a model is never changed silently. Pure."""

from typing import Final

from services.generation import model_registry
from services.generation.operations import Answered, Outcome, Refused

_NAME_CHARACTERS: Final = 200


def as_asked(outcome: Outcome, *, provider: str, asked: str) -> Outcome:
    """Return ``outcome``; an answer that the provider says another model than ``asked`` has given, as a refusal.

    It has run and is billed, and so no other provider may do it instead. A vendor's name for a version of the model
    that was asked for is no other model.
    """
    if not isinstance(outcome, Answered) or model_registry.is_same(provider, asked=asked, said=outcome.model):
        return outcome
    said = outcome.model[:_NAME_CHARACTERS]
    detail = f"{asked} was asked for, and {said} has answered"
    return Refused(code="model_changed", detail=detail, ran=True, cost_microusd=outcome.cost_microusd, model=said)
