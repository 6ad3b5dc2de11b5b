"""Fields of product analyses by path: whatever the product is, one of them changes and nothing else does."""

import json
from typing import Any

import pytest

from services.generation import tech_pack_facts as facts
from services.generation import tech_pack_fields as paths
from services.generation import tech_pack_steps as steps
from services.generation.analyses import RESULT_SCHEMAS, read
from services.generation.tech_pack_fields import NoSuchField
from shared.problems import StepNotAllowed
from tests.fakes import an_analysis
from tests.product_domains import DOMAINS


def analysed(domain: str) -> dict[str, Any]:
    about = DOMAINS[domain]
    name, location, finish = about["material"]
    what, value, unit = about["dimension"]
    return an_analysis(
        category=domain,
        materials=[{"name": name, "location": location, "finish": finish}],
        dimensions=[{"name": what, "value": value, "unit": unit, "basis": "stated"}],
        attributes=[{"name": field, "value": said} for field, said in about["fields"].items()],
    )


def test_there_are_twenty_domains_and_no_two_have_the_same_fields() -> None:
    fields = [frozenset(about["fields"]) for about in DOMAINS.values()]

    assert len(DOMAINS) == 20
    assert len(set(fields)) == 20


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_terms_of_every_trade_fit_and_each_can_be_edited_by_its_name(domain: str) -> None:
    analysis = read(json.dumps(analysed(domain)), RESULT_SCHEMAS["vision.product"])

    for number, (field, said) in enumerate(DOMAINS[domain]["fields"].items()):
        path = f"attributes.{field}.value"
        changed = paths.with_value(analysis, path, "otherwise")

        assert paths.value_at(analysis, path) == said
        assert changed["attributes"][number] == {"name": field, "value": "otherwise"}
        changed["attributes"][number]["value"] = said
        assert changed == analysis


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("summary", "string"),
        ("dimensions.0.value", "number"),
        ("dimensions.chest.value", "number"),
        ("dimensions[0].unit", "string"),
        ("materials", "array"),
        ("materials.0", "object"),
        ("colors.0.share", "number"),
    ],
)
def test_what_may_stand_in_a_field_follows_from_its_path(path: str, kind: str) -> None:
    analysis = analysed("apparel")

    assert paths.schema_at(path)["type"] == kind
    assert paths.with_value(analysis, path, paths.value_at(analysis, path)) == analysis


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "a..b",
        "colours",
        "confidence",
        "summary.0",
        "materials.1",
        "materials.-1",
        "materials.0.price",
        "materials.linen.name",
        "attributes.new",
        "attributes.new.name",
        "materials." + "9" * 300,
        "materials.\N{ARABIC-INDIC DIGIT ONE}.name",
    ],
)
def test_a_path_to_nothing_says_what_there_is(path: str) -> None:
    analysis = analysed("apparel")

    with pytest.raises(NoSuchField):
        paths.value_at(analysis, path)
    with pytest.raises(NoSuchField):
        paths.with_value(analysis, path, "x")


def test_an_open_field_that_is_not_there_is_added_and_the_analysis_that_was_stays_as_it_was() -> None:
    analysis = analysed("apparel")
    before = json.dumps(analysis)

    changed = paths.with_value(analysis, "construction.Care label.value", "side seam")

    assert paths.value_at(analysis, "construction.Care label.value") is None
    assert changed["construction"][-1] == {"name": "Care label", "value": "side seam"}
    assert json.dumps(analysis) == before


@pytest.mark.parametrize(
    ("one", "other", "overlapping"),
    [
        ("summary", "summary", True),
        ("materials", "materials.0.name", True),
        ("materials.0.name", "materials[0]", True),
        ("dimensions.chest.value", "dimensions.0.value", True),
        ("dimensions.chest.value", "dimensions.0.unit", False),
        ("materials.0.name", "materials.1.name", False),
        ("attributes.new.value", "attributes.new.value", True),
        ("attributes.new.value", "attributes.newer.value", False),
        ("summary", "category", False),
    ],
)
def test_paths_overlap_where_they_mean_the_same_or_a_part_of_it(one: str, other: str, *, overlapping: bool) -> None:
    analysis = analysed("apparel")

    assert paths.overlap(analysis, one, other) == paths.overlap(analysis, other, one) == overlapping


def test_fields_do_not_grow_without_end() -> None:
    full = an_analysis(category="x", attributes=[{"name": f"field {n}", "value": ""} for n in range(100)])

    with pytest.raises(NoSuchField):
        paths.with_value(full, "attributes.one more.value", "x")


def test_what_an_analysis_leaves_empty_makes_it_less_sure() -> None:
    whole = an_analysis(category="cup")
    half = {**whole, "materials": [], "construction": [], "attributes": []}
    nothing: dict[str, Any] = {name: [] for name in whole} | {"confidence": 0.8}

    assert [steps.confidence(one) for one in (whole, half, nothing)] == [0.8, 0.64, 0.48]
    assert steps.confidence({"confidence": 7}) == 0.6


@pytest.mark.parametrize(
    ("there", "status"),
    [
        ((0, 0, 0, 0), "no_views"),
        ((2, 0, 0, 0), "not_analyzed"),
        ((2, 1, 0, 0), "analyzed"),
        ((2, 1, 8, 0), "analyzed"),
        ((2, 1, 0, 3), "analyzed"),
        ((2, 1, 8, 3), "complete"),
    ],
)
def test_where_a_pack_stands_follows_from_what_there_is(there: tuple[int, ...], status: str) -> None:
    names = ("views", "analyzed", "close_ups", "sketches")

    assert steps.status_of(**dict(zip(names, there, strict=True))) == status
    assert set(steps.allowed(status)) >= {steps.ADD_VIEW}


@pytest.mark.parametrize("step", [steps.CLOSE_UPS, steps.SKETCHES, steps.EDIT, steps.REGENERATE])
def test_what_needs_an_analysis_says_so(step: str) -> None:
    steps.require(step, views=1, analyzed=1)

    with pytest.raises(StepNotAllowed) as refused:
        steps.require(step, views=1, analyzed=0)

    assert refused.value.extra == {
        "session_status": "not_analyzed",
        "allowed": ["add_view", "detect_category", "analyze_base_views"],
    }


def test_a_size_is_known_where_the_product_states_it_in_a_unit() -> None:
    assert facts.stated_size({"height_mm": 90, "width_in": 2}) == {"height_cm": 9.0, "width_cm": 5.08}
    for strange in ({"height": 9}, {"height_cm": "9"}, {"height_cm": True}, {"height_cm": -1}, {"height_cm": 1e30}):
        assert facts.stated_size(strange) == {"height_cm": 0.0, "width_cm": 0.0}
