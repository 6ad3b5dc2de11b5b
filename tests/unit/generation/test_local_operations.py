"""Every operation without a key: real work on the pixels, the same for the same seed, honest about what it knows."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from services.generation.analyses import RESULT_SCHEMAS, read
from services.generation.model_registry import MODELS
from services.generation.operations import Answered, Refused
from services.generation.providers import Request, available
from services.generation.providers.local import MODEL
from services.generation.providers.local_analyses.analyses import analyze, analyze_text, categorize, plan
from services.generation.providers.local_pictures.details import close_up
from services.generation.providers.local_pictures.edited import edit
from services.generation.providers.local_pictures.emptied import empty_room
from services.generation.providers.local_pictures.headshot import headshot
from services.generation.providers.local_pictures.sketch import sketch
from services.generation.providers.local_products.measures import measure
from services.generation.workflows import headshot as headshots
from shared.images import CorruptImage
from tools.demo_room import demo_room

Work = Callable[..., bytes]
WORKS: dict[str, Work] = {
    "empty_room": empty_room,
    "edit": edit,
    "close_up": close_up,
    "sketch": sketch,
    "headshot": headshot,
}
EXTRA: dict[str, dict[str, Any]] = {"image.stage": {"style": "modern", "room_type": "bedroom"}}
EXTRA["vision.edit"] = {"instruction": "Set it to matt."}
EXTRA["image.product_scene"] = {**EXTRA["image.stage"], "aspect_ratio": "1:1"}


@pytest.fixture(scope="module")
def room() -> bytes:
    return as_jpeg(Image.open(io.BytesIO(demo_room())).resize((480, 360)))


@pytest.fixture(scope="module")
def vase() -> bytes:
    """A red vase with one finely striped side, before white."""
    picture = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((120, 100, 280, 340), fill=(170, 40, 40))
    for x in range(220, 270, 4):
        draw.line((x, 180, x, 260), fill=(240, 230, 90), width=2)
    return as_jpeg(picture)


def as_jpeg(picture: Image.Image) -> bytes:
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=95)
    return output.getvalue()


def pixels(data: bytes, size: tuple[int, int] = (240, 180)) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(size, Image.Resampling.BOX), np.float64)


def detail(picture: NDArray[np.float64]) -> float:
    return float(np.abs(np.diff(picture.mean(2), axis=1)).mean())


@pytest.mark.parametrize("name", WORKS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(room: bytes, name: str) -> None:
    work = WORKS[name]

    assert work(room, seed=1) == work(room, seed=1)
    assert work(room, seed=1) != work(room, seed=2)


@pytest.mark.parametrize("name", WORKS)
def test_what_is_no_picture_is_refused_as_such(name: str) -> None:
    with pytest.raises(CorruptImage):
        WORKS[name](b"\xff\xd8\xff not a picture", seed=1)


def test_what_stands_in_a_room_gives_way_to_wall_and_floor(room: bytes) -> None:
    furnished = Image.open(io.BytesIO(room)).convert("RGB")
    place = (170, 150, 310, 250)
    ImageDraw.Draw(furnished).rectangle(place, fill=(60, 40, 70))
    box = (slice(75, 125), slice(85, 155))  # the same, in pictures of 240 x 180

    bare, before, after = (pixels(each) for each in (room, as_jpeg(furnished), empty_room(as_jpeg(furnished), seed=1)))

    assert np.abs(after[box] - bare[box]).mean() < 0.45 * np.abs(before[box] - bare[box]).mean()
    assert abs(after.mean() - bare.mean()) < 25


def test_another_try_at_an_empty_room_is_another_version_of_the_same_room(room: bytes) -> None:
    first, second, third = (pixels(empty_room(room, seed=seed)) for seed in (1, 2, 3))

    for one, other in ((first, second), (first, third), (second, third)):
        assert np.abs(one - other).mean() > 2
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_dusk_is_darker_and_bluer_than_day_and_its_lights_are_warm(room: bytes) -> None:
    day, dusk = pixels(room), pixels(edit(room, seed=1, edit="day_to_dusk"))
    dark = dusk.mean(2) < np.percentile(dusk.mean(2), 50)

    assert dusk.mean() < 0.75 * day.mean()
    assert (dusk[dark][:, 2] - dusk[dark][:, 0]).mean() > (day[dark][:, 2] - day[dark][:, 0]).mean()


def test_an_enhanced_photo_uses_more_of_the_range_of_tones(room: bytes) -> None:
    dull = as_jpeg(Image.eval(Image.open(io.BytesIO(room)).convert("RGB"), lambda value: 90 + value // 4))

    before, after = pixels(dull), pixels(edit(dull, seed=1))

    assert np.ptp(after) > 1.5 * np.ptp(before)


def test_an_edit_it_cannot_follow_is_refused(room: bytes) -> None:
    with pytest.raises(ValueError, match="not an edit"):
        edit(room, seed=1, edit="make the sofa blue")


def test_the_first_close_up_is_where_the_detail_is(vase: bytes) -> None:
    whole, first, last = pixels(vase), pixels(close_up(vase, seed=1, shot=1)), pixels(close_up(vase, seed=1, shot=6))

    assert detail(first) > 2 * detail(whole)
    assert detail(first) > detail(last)


def test_close_ups_of_a_plan_are_of_different_places(room: bytes) -> None:
    shots = [pixels(close_up(room, seed=1, shot=number)) for number in range(1, 7)]

    differences = [np.abs(one - other).mean() for i, one in enumerate(shots) for other in shots[:i]]

    assert min(differences) > 5


def test_even_a_blank_picture_has_places_to_look_at() -> None:
    blank = as_jpeg(Image.new("RGB", (64, 64), "grey"))

    assert len(plan([blank], count=10)["shots"]) == 10


def test_a_sketch_is_ink_on_white_with_the_product_in_it(vase: bytes) -> None:
    measured = measure(vase)

    drawn = pixels(sketch(vase, seed=1, **{name: measured[name] for name in ("callouts", "measurements")}), (200, 200))

    assert np.median(drawn) > 250
    assert (drawn[40:160, 40:160].mean(2) < 200).mean() > 0.01


def test_the_views_of_a_sketch_differ_and_the_side_is_narrow(vase: bytes) -> None:
    front, back, side = (pixels(sketch(vase, seed=1, view=view), (200, 200)) for view in ("front", "back", "side"))

    def width(picture: NDArray[np.float64]) -> int:
        columns = np.flatnonzero((picture.mean(2) < 200).any(0))
        return int(columns.max() - columns.min())

    assert np.abs(front - back).mean() > 0.5
    assert width(side) < 0.6 * width(front)


def test_a_headshot_is_framed_as_asked_and_leaves_the_face_alone() -> None:
    picture = Image.new("RGB", (600, 800), (70, 110, 80))
    ImageDraw.Draw(picture).ellipse((230, 130, 370, 310), fill=(224, 172, 140))
    made = Image.open(io.BytesIO(headshot(as_jpeg(picture), seed=1, style="corporate", aspect_ratio="4:5")))

    assert made.size == (819, 1024)
    centre = np.asarray(made.convert("RGB"), np.float64)[350:480, 360:460].reshape(-1, 3).mean(0)
    assert np.abs(centre - (224, 172, 140)).max() < 25


def test_the_styles_of_headshots_differ() -> None:
    photo = as_jpeg(Image.linear_gradient("L").convert("RGB"))
    made = [pixels(headshot(photo, seed=1, style=style, quality="low")) for style in headshots.STYLES]

    assert len(made) == 6
    assert all(np.abs(one - other).mean() > 5 for i, one in enumerate(made) for other in made[:i])


@pytest.mark.parametrize(("quality", "side"), [("low", 512), ("medium", 768), ("high", 1024)])
def test_the_quality_of_a_headshot_is_its_size(quality: str, side: int) -> None:
    made = Image.open(io.BytesIO(headshot(as_jpeg(Image.new("RGB", (600, 800), "tan")), seed=1, quality=quality)))

    assert made.size == (side, side)


@pytest.mark.parametrize("wrong", [{"style": "gothic"}, {"quality": "best"}, {"aspect_ratio": "9:1"}])
def test_a_headshot_that_nobody_can_make_is_refused_by_name(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        headshot(as_jpeg(Image.new("RGB", (60, 80))), seed=1, **wrong)


def test_a_plain_backdrop_is_replaced_to_its_edges_and_the_coat_is_kept() -> None:
    picture = Image.new("RGB", (600, 800), (70, 110, 80))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((230, 130, 370, 310), fill=(224, 172, 140))
    draw.rectangle((200, 330, 400, 800), fill=(200, 60, 20))
    made = Image.open(io.BytesIO(headshot(as_jpeg(picture), seed=1, style="model"))).convert("RGB")

    corner = np.asarray(made, np.float64)[20:60, 20:60].reshape(-1, 3).mean(0)
    red, _, blue = np.asarray(made, np.float64)[-40:, 490:530].reshape(-1, 3).mean(0)
    assert corner.min() > 200
    assert red > blue + 30


def test_an_analysis_tells_the_colours_that_are_there(vase: bytes) -> None:
    told = analyze(vase)

    assert read_back("vision.analyze", told) == told
    assert [colour["name"] for colour in told["colors"]][:2] == ["white", "red"]
    assert sum(colour["share"] for colour in told["colors"]) == pytest.approx(1, abs=0.01)
    assert told["composition"].startswith("square")


def read_back(operation: str, told: dict[str, Any]) -> dict[str, Any]:
    import json  # noqa: PLC0415  only here

    return read(json.dumps(told), RESULT_SCHEMAS[operation])


def test_what_nobody_said_is_unknown_and_said_with_no_confidence(vase: bytes) -> None:
    assert categorize(vase) == {"category": "unknown", "subcategory": "unknown", "confidence": 0.05}


def test_a_name_lets_one_guess_and_metadata_let_one_know(vase: bytes) -> None:
    guessed = categorize(vase, name="Oslo Three Seat Sofas")
    known = categorize(vase, name="Oslo", category="Sofa")

    assert (
        (guessed["category"], guessed["subcategory"])
        == (known["category"], known["subcategory"])
        == ("furniture", "sofa")
    )
    assert 0.05 < guessed["confidence"] < known["confidence"] <= 0.9


def test_a_category_we_do_not_know_is_taken_as_it_was_told(vase: bytes) -> None:
    assert categorize(vase, category="aquarium")["category"] == "aquarium"


@pytest.mark.parametrize("count", [5, 11])
def test_a_plan_has_six_to_ten_shots(vase: bytes, count: int) -> None:
    with pytest.raises(ValueError, match="6 to 10"):
        plan([vase], count=count)


def test_products_are_understood_together_from_their_names() -> None:
    told = analyze_text(
        products=[
            {"name": "Velvet sofa", "room_types": ["living_room"]},
            {"name": "Oak desk", "metadata": {"use": "home office"}},
            {"name": "Xyzzy"},
        ]
    )

    assert read_back("text.analyze", told) == told
    assert told["room_types"][0] == "living_room"
    assert "home_office" in told["room_types"]
    assert "luxury" in told["styles"]
    assert set(told["categories"]) == {"furniture/sofa", "furniture/table"}
    assert told["confidence"] == pytest.approx(0.5 * 2 / 3, abs=0.01)


def asked(operation: str, source: bytes, **changes: Any) -> Request:
    fields: dict[str, Any] = {"parameters": EXTRA.get(operation, {}), "sources": (source,), "seed": 1, **changes}
    return Request(operation_id="op_1", name=operation, prompt="", model=MODEL, **fields)


@pytest.mark.parametrize("operation", sorted({name for model in MODELS for name in model.operations}))
def test_every_operation_of_the_registry_works_without_a_key(room: bytes, operation: str) -> None:
    local = available({})["local"]

    outcome = local.submit(asked(operation, room))

    assert operation in local.operations
    assert isinstance(outcome, Answered)
    assert bool(outcome.images) == operation.startswith("image.")
    assert (outcome.result is None) == operation.startswith("image.")
    assert outcome.cost_microusd == 0


def test_parameters_that_only_a_model_understands_pass_by(room: bytes) -> None:
    outcome = available({})["local"].submit(asked("image.sketch", room, parameters={"quality": "high", "view": "side"}))

    assert isinstance(outcome, Answered)


def test_what_an_operation_cannot_do_without_is_named(room: bytes) -> None:
    local = available({})["local"]

    unstyled = local.submit(asked("image.stage", room, parameters={}))
    blind = local.submit(asked("vision.analyze", room, sources=()))

    assert isinstance(unstyled, Refused)
    assert isinstance(blind, Refused)
    assert (unstyled.code, unstyled.detail) == ("invalid_input", "image.stage needs style, room_type")
    assert blind.detail == "vision.analyze needs photo"


def test_an_answer_in_a_shape_of_the_workflows_own_is_left_to_models(room: bytes) -> None:
    schema = {"type": "object", "properties": {"poem": {"type": "string"}}, "required": ["poem"]}

    outcome = available({})["local"].submit(asked("vision.analyze", room, parameters={"schema": schema}))

    assert isinstance(outcome, Refused)
    assert outcome.code == "invalid_input"
