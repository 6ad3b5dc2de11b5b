"""Who does an operation, and who may do it instead: never a second provider where the first might have run."""

from collections.abc import Mapping
from typing import Any

import pytest

from services.generation.engine import Engine
from services.generation.failures import TAXONOMY
from services.generation.operations import Answered, Lost, Outcome, Refused
from services.generation.planning import expected_cost_microusd
from services.generation.pricing import Unpriceable
from services.generation.providers import Provider, candidates, fallback
from services.generation.workflows import PlannedGeneration, PlannedOperation
from shared.problems import Unavailable
from tests.fakes import ScriptedProvider

OPERATION = "image.stage"


class Named(ScriptedProvider):
    def __init__(self, name: str, *operations: str) -> None:
        super().__init__()
        self.name = name
        self.operations = frozenset(operations or (OPERATION,))


PROVIDERS: dict[str, Provider] = {name: Named(name) for name in ("first", "second", "third")} | {
    "elsewhere": Named("elsewhere", "image.sketch")
}
ROUTES = {OPERATION: ["absent", "first", "elsewhere", "second", "third"]}


def next_after(outcome: Outcome, *tried: str, routes: dict[str, list[str]] = ROUTES) -> str | None:
    chosen = fallback(OPERATION, outcome, tried=tried or ("first",), routes=routes, providers=PROVIDERS)
    return chosen.name if chosen else None


def test_the_candidates_are_those_of_the_route_that_are_set_up_and_can_do_it_in_its_order() -> None:
    found = candidates(OPERATION, routes=ROUTES, providers=PROVIDERS)

    assert [each.name for each in found] == ["first", "second", "third"]


@pytest.mark.parametrize("code", ["connect_failed", "capacity", "rate_limited", "auth_failed", "model_retired"])
def test_the_next_of_the_route_may_do_what_the_first_never_began(code: str) -> None:
    assert next_after(Refused(code=code, detail="")) == "second"


@pytest.mark.parametrize("code", sorted(TAXONOMY))
def test_no_other_provider_does_what_the_first_has_run(code: str) -> None:
    assert next_after(Refused(code=code, detail="", ran=True)) is None


@pytest.mark.parametrize("outcome", [Lost(detail="reset"), Answered(model="m")], ids=["lost", "answered"])
def test_no_other_provider_does_what_the_first_has_done_or_may_have_done(outcome: Outcome) -> None:
    assert next_after(outcome) is None


def test_what_is_wrong_with_the_request_itself_is_wrong_everywhere() -> None:
    assert next_after(Refused(code="invalid_input", detail="422")) is None


def test_a_request_refused_for_its_content_gets_one_other_opinion() -> None:
    refused = Refused(code="moderation_input", detail="blocked")

    assert next_after(refused) == "second"
    assert next_after(refused, "first", "second") is None


def test_each_provider_is_tried_once() -> None:
    refused = Refused(code="connect_failed", detail="")

    assert next_after(refused, "first", "second") == "third"
    assert next_after(refused, "first", "second", "third") is None


def test_a_route_with_one_provider_has_no_fallback() -> None:
    assert next_after(Refused(code="connect_failed", detail=""), routes={OPERATION: ["first"]}) is None


def test_what_nobody_can_price_is_not_begun() -> None:
    class Priceless(Named):
        def expected_cost_microusd(self, operation: str, _parameters: Mapping[str, Any]) -> int:
            raise Unpriceable(operation)

    planned = PlannedGeneration(
        sku="staging.variant",
        seed=1,
        operations=(PlannedOperation(name=OPERATION, prompt="", prompt_version="1", seed=1),),
    )
    engine = Engine(providers={"local": Priceless("local")}, routes={})

    with pytest.raises(Unavailable, match="cost"):
        expected_cost_microusd(engine, planned)
