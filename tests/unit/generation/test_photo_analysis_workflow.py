"""What the analysis of photos is made of: one generation each, without a price where the answer is known."""

from typing import Any

import pytest
from marshmallow import ValidationError

from services.generation.providers import available
from services.generation.workflows import photo_analysis
from shared.problems import LimitExceeded


def inputs(photos: int = 1, **others: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = photo_analysis.Inputs().load({"upload_ids": ids(photos), **others})
    return loaded


def ids(photos: int) -> list[str]:
    return [f"ast_{number}" for number in range(photos)]


def assets(photos: int) -> dict[str, dict[str, str]]:
    return {upload_id: {"key": f"assets/org/{upload_id}.jpg", "sha256": upload_id} for upload_id in ids(photos)}


def test_each_photo_is_one_generation_of_one_analysis_that_makes_no_image() -> None:
    planned = photo_analysis.plan(inputs(3), assets(3), 1)

    assert [item.sku for item in planned] == ["studio.analysis"] * 3
    assert [item.operations[0].sources for item in planned] == [(f"assets/org/ast_{n}.jpg",) for n in range(3)]
    assert not any(operation.makes_image for item in planned for operation in item.operations)


@pytest.mark.parametrize(("kind", "operation"), [("look", "vision.analyze"), ("category", "vision.category")])
def test_each_kind_is_an_operation_the_local_provider_does(kind: str, operation: str) -> None:
    (planned,) = photo_analysis.plan(inputs(kind=kind), assets(1), 1)

    assert planned.operations[0].name == operation
    assert operation in available({})["local"].operations


def test_what_is_known_has_no_price() -> None:
    planned = photo_analysis.plan(inputs(2), assets(2), 1, lambda operation: "ast_1" in operation.sources[0])

    assert [item.sku for item in planned] == ["studio.analysis", None]


def test_more_than_500_photos_are_a_named_limit() -> None:
    with pytest.raises(LimitExceeded) as refused:
        photo_analysis.plan(inputs(502), assets(502), 1)

    assert (refused.value.extra["limit"], refused.value.extra["excess"]) == (500, 2)


@pytest.mark.parametrize("wrong", [{"upload_ids": []}, {"upload_ids": ["ast_1", "ast_1"]}, {"kind": "smell"}, {"x": 1}])
def test_what_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        photo_analysis.Inputs().load({"upload_ids": ["ast_1"], **wrong})
