"""Inputs against the contract of their workflow, and which uploads, products and views they name."""

import pytest
from jsonschema import Draft202012Validator

from services.gateway import workflows
from services.gateway.workflows import Contract
from shared.problems import BadRequest

FIRST = "ast_01jx0000000000000000000001"
SECOND = "ast_01jx0000000000000000000002"
PRODUCT = "prd_01jx0000000000000000000001"
REVISION = "rev_01jx0000000000000000000001"


@pytest.fixture
def collage():
    inputs = {
        "type": "object",
        "properties": {
            "rooms": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "chair": {"type": "string"},
            "sides": {"type": "array", "items": {"type": "string"}},
            "paper": {"type": "object", "properties": {"dpi": {"type": "integer"}}, "additionalProperties": False},
        },
        "required": ["rooms"],
        "additionalProperties": False,
    }
    return Contract(
        name="collage",
        title="Collage",
        inputs=inputs,
        assets=("rooms",),
        products=("chair",),
        revisions=("sides",),
        example={},
        validator=Draft202012Validator(inputs),
    )


def _errors(line, inputs):
    with pytest.raises(BadRequest) as refused:
        workflows.check(line, inputs, at="/inputs")
    return [(error["pointer"], error["code"]) for error in refused.value.extra["errors"]]


def test_every_mistake_is_told_by_its_place(collage):
    assert _errors(collage, {}) == [("/inputs/rooms", "required")]
    assert _errors(collage, {"rooms": FIRST}) == [("/inputs/rooms", "invalid")]
    assert _errors(collage, {"rooms": []}) == [("/inputs/rooms", "invalid")]
    assert _errors(collage, {"rooms": [FIRST], "paper": {"dpi": "a", "ink": 1}}) == [
        ("/inputs/paper/dpi", "invalid"),
        ("/inputs/paper/ink", "unknown_field"),
    ]


def test_an_id_that_is_none_is_found_here_and_not_by_the_catalog(collage):
    assert _errors(collage, {"rooms": [FIRST, "img_01jx0000000000000000000001"]}) == [("/inputs/rooms", "invalid")]


def test_of_thousands_of_mistakes_fifty_are_told_and_the_others_not_looked_for(collage, monkeypatch):
    looked_at = []
    is_id = workflows.is_id
    monkeypatch.setattr(workflows, "is_id", lambda text, **kind: looked_at.append(text) or is_id(text, **kind))

    errors = _errors(collage, {"rooms": ["a"] * 5000})

    assert len(errors) == len(looked_at) == 50


def test_a_long_text_of_the_client_is_not_sent_back_whole(collage):
    with pytest.raises(BadRequest) as refused:
        workflows.check(collage, {"rooms": [1], "x" * 10_000: 1}, at="/inputs")

    assert len(str(refused.value.extra["errors"])) < 2000


@pytest.mark.parametrize("inputs", [{"chair": FIRST}, {"chair": REVISION}, {"sides": [PRODUCT]}, {"sides": ["rev_1"]}])
def test_a_product_and_a_view_are_named_by_ids_of_their_own(collage, inputs):
    (name,) = inputs

    assert _errors(collage, {"rooms": [FIRST], **inputs}) == [(f"/inputs/{name}", "invalid")]


def test_what_inputs_name_is_listed_by_kind_each_once(collage):
    everything = {"rooms": [SECOND, FIRST, SECOND], "chair": PRODUCT, "sides": [REVISION, REVISION]}

    assert workflows.named(collage, everything) == {
        "asset_ids": [FIRST, SECOND],
        "product_ids": [PRODUCT],
        "revision_ids": [REVISION],
    }
    assert workflows.named_in_all(workflows.named(collage, everything)) == 4
    assert workflows.named_in_all(workflows.named(collage, {})) == 0
    assert workflows.named_in_all({"org_id": "org_1", "asset_ids": [FIRST, SECOND]}) == 2


def test_every_contract_accepts_its_own_example():
    for line in workflows.contracts().values():
        workflows.check(line, line.example, at="/inputs")


def test_staging_makes_one_to_eight_variants_and_two_if_not_told():
    variants = workflows.contract("staging").inputs["properties"]["variants"]

    assert (variants["minimum"], variants["maximum"], variants["default"]) == (1, 8, 2)


def test_an_unknown_workflow_is_told_with_those_there_are():
    with pytest.raises(BadRequest, match="staging"):
        workflows.contract("alchemy")
