"""Which model does what on which day, what it costs, and which end soon."""

from datetime import date, timedelta

import pytest

from services.generation import model_registry
from services.generation.model_registry import MODELS, Model, NoModel, find, is_same, model_for, sunsets
from services.generation.pricing import PerImage, PerToken, Reported, Unpriceable, Usage

TODAY = date(2026, 11, 20)
CENT = PerImage(microusd=10_000)


def a_model(name: str, **changes: object) -> Model:
    fields = {
        "provider": "vendor",
        "id": name,
        "operations": frozenset({"image.stage"}),
        "valid_from": date(2026, 1, 1),
        "prices": ((date(2026, 1, 1), CENT),),
    }
    return Model(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_first_model_that_is_valid_that_day_does_the_operation() -> None:
    ended = a_model("ended", sunset=TODAY)
    not_yet = a_model("not-yet", valid_from=TODAY + timedelta(days=1))
    models = (ended, not_yet, a_model("now"), a_model("also-now"))

    assert model_for("vendor", "image.stage", on=TODAY, models=models).id == "now"
    assert model_for("vendor", "image.stage", on=TODAY - timedelta(days=1), models=models).id == "ended"


def test_a_provider_without_a_model_for_it_says_so() -> None:
    with pytest.raises(NoModel, match=r"image\.fly"):
        model_for("replicate", "image.fly", on=TODAY)


def test_a_model_is_found_by_its_id_and_by_its_alias() -> None:
    model = a_model("flux-1-2026-01-01", aliases=frozenset({"flux"}))

    assert find("vendor", "flux", models=(model,)) is find("vendor", "flux-1-2026-01-01", models=(model,)) is model
    with pytest.raises(NoModel, match="flux-2"):
        find("vendor", "flux-2", models=(model,))


SAME = [
    "flux-1",
    "",
    "flux",
    "models/flux-1",
    "flux-1-001",
    "flux-1-2026-09-08",
    "flux-1@20260908",
    f"flux-1:{'5c' * 32}",
]
OTHER = [
    "flux-1-lite",
    "flux-1-2",
    "flux-12026-09-08",
    "flux-2",
    "flux-1-2026-09-08-lite",
    "flux-",
    "FLUX-1",
    "flux-001",
]


@pytest.mark.parametrize(("said", "same"), [*((said, True) for said in SAME), *((said, False) for said in OTHER)])
def test_a_version_of_the_model_that_was_asked_for_is_no_other_model(
    said: str,
    same: bool,  # noqa: FBT001  a case
) -> None:
    models = (a_model("flux-1", aliases=frozenset({"flux"})), a_model("flux-2"))

    assert is_same("vendor", asked="flux-1", said=said, models=models) is same


def test_another_date_of_the_model_that_was_asked_for_is_another_model() -> None:
    models = (a_model("gpt-2026-03-17", aliases=frozenset({"gpt"})),)

    assert is_same("vendor", asked="gpt-2026-03-17", said="gpt", models=models)
    assert not is_same("vendor", asked="gpt-2026-03-17", said="gpt-2026-09-01", models=models)


def test_a_sunset_is_told_from_30_days_ahead_until_the_day_it_comes_soonest_first() -> None:
    models = (
        a_model("in-30", sunset=TODAY + timedelta(days=30), replacement="next"),
        a_model("in-31", sunset=TODAY + timedelta(days=31)),
        a_model("tomorrow", sunset=TODAY + timedelta(days=1)),
        a_model("gone", sunset=TODAY),
        a_model("for-ever"),
    )

    assert [model.id for model in sunsets(TODAY, models=models)] == ["tomorrow", "in-30"]


def test_a_price_is_that_of_its_day() -> None:
    cheap, dear = PerImage(microusd=1), PerImage(microusd=2)
    model = a_model("m", prices=((date(2026, 1, 1), cheap), (date(2027, 1, 1), dear)))

    assert model.price(date(2026, 12, 31)) is cheap
    assert model.price(date(2027, 1, 1)) is dear


def test_a_model_without_a_price_is_unpriceable_not_free() -> None:
    with pytest.raises(Unpriceable, match="no price is known for vendor m"):
        a_model("m", prices=()).price(TODAY)


def test_images_are_paid_for_one_by_one() -> None:
    assert CENT.of(Usage(images=3)) == 30_000
    assert CENT.expected({}) == 10_000


def test_tokens_are_paid_for_by_their_kind_and_a_fraction_of_a_microdollar_is_a_whole_one() -> None:
    price = PerToken(
        text_input=5_000_000, text_output=10_000_000, image_input=8_000_000, image_output=30_000_000, usual={}
    )

    used = Usage(text_input_tokens=100, image_input_tokens=1000, text_output_tokens=10, image_output_tokens=1000)

    assert price.of(used) == 500 + 8_000 + 100 + 30_000
    assert PerToken(text_input=1, text_output=1, usual={}).of(Usage(text_input_tokens=1)) == 1


def test_pictures_that_have_no_price_of_their_own_cost_what_text_does() -> None:
    price = PerToken(text_input=1_000_000, text_output=0, usual={})

    assert price.of(Usage(text_input_tokens=1, image_input_tokens=2)) == 3


def test_tokens_that_nobody_counted_are_unpriceable() -> None:
    with pytest.raises(Unpriceable, match="how many tokens"):
        PerToken(text_input=1, text_output=1, usual={}).of(Usage(images=1))


def test_a_quality_without_a_price_is_refused_before_anything_is_sent() -> None:
    price = PerToken(text_input=1, text_output=1, usual={"medium": Usage(text_input_tokens=1)})

    assert price.expected({}) == 1
    with pytest.raises(Unpriceable, match="ultra"):
        price.expected({"quality": "ultra"})


def test_a_vendor_that_names_its_price_is_believed_and_one_that_forgot_it_is_not_free() -> None:
    price = Reported(usual_microusd=20_000)

    assert price.expected({}) == 20_000
    assert price.of(Usage(reported_microusd=7)) == 7
    with pytest.raises(Unpriceable):
        price.of(Usage(images=1))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.provider}-{model.id}")
def test_the_table_makes_sense(model: Model) -> None:
    since = [day for day, _ in model.prices]

    assert since == sorted(since)
    assert since or model.sunset is not None
    assert model.sunset is None or model.valid_from < model.sunset
    if model.replacement:
        assert find(model.provider, model.replacement).operations >= model.operations
    for _, price in model.prices:
        assert (price.expected({}) > 0) == (model.provider != "local")


def test_every_model_in_use_has_a_price_today() -> None:
    for model in MODELS:
        if model.is_valid(date.today()):  # noqa: DTZ011  the day of whoever runs the test is the day the table is used
            assert model.price(date.today()).expected({}) >= 0  # noqa: DTZ011  as above


def test_no_two_models_of_a_vendor_share_a_name() -> None:
    names = [(model.provider, name) for model in MODELS for name in (model.id, *model.aliases)]

    assert len(names) == len(set(names))
    assert model_registry.operations_of("nobody") == frozenset()
