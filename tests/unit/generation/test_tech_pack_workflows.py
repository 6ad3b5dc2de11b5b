"""What the steps of a technical pack plan: which views are looked at, and what the questions say of the product."""

from typing import Any

import pytest

from services.generation import tech_pack_facts as facts
from services.generation.workflows import (
    DoneOperation,
    tech_pack_base_views,
    tech_pack_category,
    tech_pack_close_ups,
    tech_pack_regenerate,
    tech_pack_sketches,
)
from shared.problems import StepNotAllowed
from tests.fakes import an_analysis

VIEWS = ("detail", "top", "bottom", "right", "left", "back", "front")
IN_ORDER = ["front", "back", "left", "right", "top", "bottom", "detail"]
SIZED = {"height_cm": 9.0, "width_cm": 0.0}


def a_view(name: str, analysis: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": f"rev_{name}",
        "subject": f"rev_{name}",
        "product_id": "prd_1",
        "view_type": name,
        "version": 1,
        "key": f"assets/{name}.jpg",
        "analysis": analysis,
    }


def a_product(*views: str, analyzed: bool = True, **about: Any) -> dict[str, Any]:
    shown = {name: a_view(name, an_analysis(category="cup", seen=name) if analyzed else None) for name in views}
    return {"id": "prd_1", "name": "A cup", "category": None, "size": SIZED, "views": shown, **about}


def planned(line: Any, product: dict[str, Any], **inputs: Any) -> Any:
    loaded = line.Inputs().load({"product_id": "prd_1", **inputs})
    (generation,) = line.plan(loaded, {"prd_1": product, **{one["id"]: one for one in product["views"].values()}}, 1)
    return generation


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
def test_of_all_views_the_first_five_are_analysed_the_front_before_all(count: int) -> None:
    product = a_product(*VIEWS[-count:], analyzed=False)

    generation = planned(tech_pack_base_views, product)

    seen = [view["view_type"] for view in generation.settings["views"]]
    assert seen == [name for name in IN_ORDER if name in product["views"]][:5]
    assert [one.sources for one in generation.operations] == [(f"assets/{name}.jpg",) for name in seen]


@pytest.mark.parametrize("line", [tech_pack_category, tech_pack_base_views, tech_pack_close_ups, tech_pack_sketches])
def test_without_any_view_there_is_nothing_to_do(line: Any) -> None:
    with pytest.raises(StepNotAllowed) as refused:
        planned(line, a_product())

    assert refused.value.extra["allowed"] == ["add_view"]


def test_close_ups_are_planned_of_the_analysed_views_five_at_most() -> None:
    product = a_product(*VIEWS)
    product["views"]["back"]["analysis"] = None

    generation = planned(tech_pack_close_ups, product)

    seen = ["front", "left", "right", "top", "bottom"]
    (plan,) = generation.operations
    assert plan.sources == tuple(f"assets/{name}.jpg" for name in seen)
    assert plan.parameters == {"count": 8, "views": seen}
    assert "front, left, right, top, bottom" in plan.prompt
    assert generation.settings["photos"] == [{"seen_from": name, "revision_id": f"rev_{name}"} for name in seen]


def test_a_shot_is_made_of_the_photo_that_shows_it_and_one_of_no_photo_of_the_last() -> None:
    words = dict.fromkeys(("title", "view", "instruction", "reason"), "x")
    told = {"shots": [{**words, "photo": photo} for photo in (2, 1, 2, 99, 1, 2)]}
    done = DoneOperation(name="vision.plan", result=told, image_keys=(), sources=("a", "b"))

    shots = tech_pack_close_ups.shots_of(done)
    pictures = tech_pack_close_ups.follow_up({"seed": 1, "category": ""}, [done])

    assert [(one["photo"], one["number"], one["count"]) for one in shots] == [
        (2, 1, 4),
        (1, 1, 2),
        (2, 2, 4),
        (2, 3, 4),
        (1, 2, 2),
        (2, 4, 4),
    ]
    assert [one.sources for one in pictures] == [("b",), ("a",), ("b",), ("b",), ("a",), ("b",)]
    assert [one.parameters["shot"] for one in pictures] == [one["number"] for one in shots]


def test_a_stated_size_is_told_to_whoever_looks() -> None:
    product = a_product("front")

    looks = planned(tech_pack_base_views, product).operations
    measures = planned(tech_pack_sketches, product).operations

    assert all("It is stated to be 9 cm high." in one.prompt for one in (*looks, *measures))
    assert facts.of_size({"height_cm": 9, "width_cm": 7.5}) == " It is stated to be 9 cm high and 7.5 cm wide."
    assert facts.of_size({"height_cm": 0, "width_cm": 0}) == ""


def test_a_view_made_again_is_analysed_with_the_size_that_was_stated_of_it() -> None:
    stated = {"name": "Height", "value": 90, "unit": "mm", "basis": "stated"}
    guessed = {"name": "width", "value": 70, "unit": "mm", "basis": "estimated"}
    view = a_view("front", an_analysis(category="cup", dimensions=[stated, guessed]))
    inputs = tech_pack_regenerate.Inputs().load({"revision_id": view["id"]})
    (generation,) = tech_pack_regenerate.plan(inputs, {view["id"]: view}, 1)
    made = DoneOperation(name="image.edit", result=None, image_keys=("images/new.jpg",))

    (look,) = tech_pack_regenerate.follow_up(generation.settings, [made])

    assert look.parameters == {"view_type": "front", "category": "cup/plain", **SIZED}
    assert "It is stated to be 9 cm high." in look.prompt


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (None, ""),
        ({"category": "unknown", "subcategory": "cup"}, ""),
        ({"category": "kitchen", "subcategory": "Unknown"}, "kitchen"),
        ({"category": "kitchen", "subcategory": "ware"}, "kitchen/ware"),
        ({"category": "", "subcategory": ""}, ""),
        ({"category": "x" * 500, "subcategory": "y"}, "x" * 100),
    ],
)
def test_of_what_was_detected_as_much_is_told_as_is_known(said: dict[str, Any] | None, kind: str) -> None:
    assert facts.kind_told(said) == kind


def test_a_category_that_is_said_comes_before_the_products_and_that_before_the_analysis() -> None:
    product, view = {"category": "mugs"}, a_view("front", an_analysis(category="cup"))

    assert facts.kind_for({"category": "cups"}, product, [view]) == "cups"
    assert facts.kind_for({}, product, [view]) == "mugs"
    assert facts.kind_for({}, {"category": None}, [view]) == "cup/plain"
    assert facts.kind_for({}, {"category": None}) == ""
