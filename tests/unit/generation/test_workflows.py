import json
from pathlib import Path

import pytest
from marshmallow import ValidationError

from services.generation.contract import documents
from services.generation.providers import Provider, available, route
from services.generation.styles import ROOM_TYPES, STYLES
from services.generation.workflows import registered, staging, workflow
from shared.problems import NotFound
from tests.fakes import ScriptedProvider

ASSETS = {"ast_1": {"key": "assets/org/a.jpg"}}
INPUTS = {"upload_id": "ast_1", "style": "rustic", "room_type": "bedroom", "variants": 3}


@pytest.mark.parametrize("name", sorted(registered()))
def test_the_example_of_every_workflow_fits_its_own_inputs(name: str) -> None:
    line = workflow(name)

    assert line.inputs().load(dict(line.example)) == dict(line.example)


@pytest.mark.parametrize("name", sorted(registered()))
def test_the_contract_of_every_workflow_is_the_one_on_file(name: str) -> None:
    on_file = json.loads((Path("shared/contracts") / f"{name}.json").read_text())

    assert documents()[name] == on_file


def test_an_unknown_workflow_is_refused_by_name() -> None:
    with pytest.raises(NotFound, match="no_such_line"):
        workflow("no_such_line")


def test_each_variant_is_one_billable_generation_with_its_own_seed_and_the_uploaded_photo() -> None:
    planned = staging.plan(INPUTS, ASSETS, 1)

    assert [item.sku for item in planned] == ["staging.variant"] * 3
    assert len({item.seed for item in planned}) == 3
    assert [item.operations[0].sources for item in planned] == [("assets/org/a.jpg",)] * 3


def test_the_prompt_names_the_style_and_the_room() -> None:
    (planned,) = staging.plan({**INPUTS, "variants": 1}, ASSETS, 1)

    assert STYLES["rustic"] in planned.operations[0].prompt
    assert ROOM_TYPES["bedroom"] in planned.operations[0].prompt


@pytest.mark.parametrize(
    "wrong",
    [{"style": "gothic"}, {"room_type": "moon"}, {"variants": 0}, {"variants": 9}, {"variants": "2"}, {"extra": 1}],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        staging.Inputs().load({**INPUTS, **wrong})


def test_a_route_takes_the_first_provider_that_is_set_up() -> None:
    local: Provider = ScriptedProvider()

    chosen = route("image.stage", routes={"image.stage": ["replicate", "local"]}, providers={"local": local})

    assert chosen is local


def test_an_operation_nobody_does_is_said_by_name() -> None:
    with pytest.raises(LookupError, match=r"image\.fly"):
        route("image.fly", routes={}, providers={"local": ScriptedProvider()})


def test_the_local_provider_needs_no_key_and_does_every_style() -> None:
    assert "image.stage" in available({})["local"].operations
