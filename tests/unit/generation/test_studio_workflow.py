"""What a studio job is made of: every product in every variant, one billable generation each."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from marshmallow import ValidationError

from services.generation.contract import documents
from services.generation.providers import available
from services.generation.styles import ROOM_TYPES, STYLES
from services.generation.workflows import studio, workflow
from shared.problems import LimitExceeded

ONE = {"upload_ids": ["ast_0"], "style": "rustic", "room_type": "bedroom"}


def inputs(products: int = 1, **others: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = studio.Inputs().load({**ONE, "upload_ids": ids(products), **others})
    return loaded


def ids(products: int) -> list[str]:
    return [f"ast_{number}" for number in range(products)]


def assets(products: int) -> dict[str, dict[str, str]]:
    return {upload_id: {"key": f"assets/org/{upload_id}.jpg"} for upload_id in ids(products)}


def test_45_products_in_4_variants_are_180_generations_of_one_plan_generation_each() -> None:
    planned = studio.plan(inputs(45), assets(45), 1)

    assert len(planned) == 180
    assert {item.sku for item in planned} == {"studio.image"}


def test_generations_are_numbered_product_by_product() -> None:
    planned = studio.plan(inputs(2, variants=3), assets(2), 1)

    assert [(item.settings["upload_id"], item.settings["variant"]) for item in planned] == [
        ("ast_0", 1),
        ("ast_0", 2),
        ("ast_0", 3),
        ("ast_1", 1),
        ("ast_1", 2),
        ("ast_1", 3),
    ]
    assert [item.operations[0].sources for item in planned] == [
        *[("assets/org/ast_0.jpg",)] * 3,
        *[("assets/org/ast_1.jpg",)] * 3,
    ]


def test_products_keep_the_order_they_were_named_in() -> None:
    named = ["ast_2", "ast_0", "ast_1"]

    planned = studio.plan({**inputs(), "upload_ids": named, "variants": 1}, assets(3), 1)

    assert [item.settings["upload_id"] for item in planned] == named


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_no_two_generations_of_the_largest_job_share_a_seed(seed: int) -> None:
    planned = studio.plan(inputs(500, variants=8), assets(500), seed)

    seeds = [item.seed for item in planned]
    assert len(set(seeds)) == len(seeds) == 4000
    assert all(0 <= one < 2**31 for one in seeds)
    assert [item.operations[0].seed for item in planned] == seeds


def test_the_same_seed_plans_the_same() -> None:
    assert studio.plan(inputs(3), assets(3), 7) == studio.plan(inputs(3), assets(3), 7)


def test_a_product_is_photographed_square_in_4_variants_unless_asked_otherwise() -> None:
    planned = studio.plan(inputs(), assets(1), 1)

    assert len(planned) == 4
    assert {item.settings["aspect_ratio"] for item in planned} == {"1:1"}


def test_the_operation_is_told_style_room_and_aspect_ratio_in_words_and_as_data() -> None:
    (planned,) = studio.plan(inputs(variants=1, aspect_ratio="4:5"), assets(1), 1)

    (operation,) = planned.operations
    assert operation.name == "image.product_scene"
    assert operation.parameters == {"style": "rustic", "room_type": "bedroom", "aspect_ratio": "4:5"}
    assert all(words in operation.prompt for words in (STYLES["rustic"], ROOM_TYPES["bedroom"], "4:5"))


def test_500_products_are_taken() -> None:
    assert len(studio.plan(inputs(500, variants=1), assets(500), 1)) == 500


@pytest.mark.parametrize(("products", "excess"), [(501, 1), (600, 100)])
def test_more_than_500_products_pass_a_named_limit(products: int, excess: int) -> None:
    asked = inputs(products, variants=1)

    with pytest.raises(LimitExceeded) as refusal:
        studio.plan(asked, assets(products), 1)

    assert refusal.value.detail == "Maximum 500 products per studioSession. Please reduce selection."
    assert refusal.value.extra == {"limit": 500, "excess": excess}


WRONG = [
    {"upload_ids": []},
    {"upload_ids": ["ast_0", "ast_1", "ast_0"]},
    {"upload_ids": "ast_0"},
    {"upload_ids": [1]},
    {"upload_ids": None},
    {"style": "gothic"},
    {"room_type": "moon"},
    {"variants": 0},
    {"variants": 9},
    {"variants": "2"},
    {"aspect_ratio": "7:3"},
    {"extra": 1},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        studio.Inputs().load({**ONE, **wrong})


@pytest.mark.parametrize("wrong", WRONG)
def test_the_contract_refuses_what_the_schema_refuses(wrong: dict[str, Any]) -> None:
    contract = Draft202012Validator(documents()["studio"]["inputs"])

    assert contract.is_valid(ONE)
    assert not contract.is_valid({**ONE, **wrong})


def test_the_contract_leaves_the_number_of_products_to_the_named_limit() -> None:
    contract = Draft202012Validator(documents()["studio"]["inputs"])

    assert contract.is_valid({**ONE, "upload_ids": ids(501)})


def test_every_choice_can_be_planned_and_is_done_by_the_local_provider() -> None:
    line = workflow("studio")

    assert set(line.choices) == {"style", "room_type", "aspect_ratio"}
    for name, values in line.choices.items():
        for value in values:
            assert line.plan(inputs(**{name: value}), assets(1), 1)
    assert "image.product_scene" in available({})["local"].operations
