"""What the local provider makes of a product for its technical pack: measured on pictures whose measures are known."""

import io
import json
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.generation.analyses import RESULT_SCHEMAS, read
from services.generation.providers.local_analyses.analyses import plan
from services.generation.providers.local_analyses.editing import edit_field
from services.generation.providers.local_analyses.products import look_over
from services.generation.providers.local_pictures.details import close_up, spots
from services.generation.providers.local_pictures.edited import edit
from services.generation.providers.local_pictures.sketch import VIEWS, sketch
from services.generation.providers.local_products.figure import find_figure
from services.generation.providers.local_products.measures import measure
from services.generation.tech_pack_fields import schema_at
from services.generation.workflows.tech_pack_edit import answer_schema
from tests.products import a_cup


def as_jpeg(picture: Image.Image) -> bytes:
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=95)
    return output.getvalue()


def a_bottle(ground: Image.Image | None = None) -> Image.Image:
    """Return a green bottle, 100 wide and 400 high, whose neck is 40 wide, on a plain ground or another."""
    picture = ground or Image.new("RGB", (600, 600), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((250, 200, 349, 499), fill=(20, 110, 60))
    draw.rectangle((280, 100, 319, 200), fill=(20, 110, 60))
    return picture


def a_wooden_ground() -> Image.Image:
    """Return a ground of brown grain before a grey wall."""
    dice = np.random.default_rng(1)
    grain = np.repeat(dice.uniform(0.8, 1.2, (75, 1, 1)), 600, 1).repeat(8, 0)
    ground = np.array([150, 100, 60]) * grain + dice.normal(0, 8, (600, 600, 1))
    ground[:280] = np.array([70, 74, 84]) + dice.normal(0, 6, (280, 600, 1))
    return Image.fromarray(ground.clip(0, 255).astype(np.uint8))


def length(told: dict[str, Any], code: str) -> dict[str, Any]:
    (found,) = [one for one in told["measurements"] if one["code"] == code]
    return found


def test_lengths_are_those_of_the_product() -> None:
    told = measure(as_jpeg(a_bottle()))

    assert read(json.dumps(told), RESULT_SCHEMAS["vision.measure"]) == told
    assert length(told, "A")["value"] == pytest.approx(25, abs=1.5)
    assert length(told, "B") == {**length(told, "B"), "value": 100.0, "unit": "% of height", "basis": "measured"}
    assert length(told, "D")["value"] == pytest.approx(25, abs=1.5)
    assert "Narrowest point" in {one["label"] for one in told["callouts"]}
    assert [one["number"] for one in told["callouts"]] == list(range(1, len(told["callouts"]) + 1))


def test_a_stated_height_gives_the_scale() -> None:
    told = measure(as_jpeg(a_bottle()), height_cm=32)

    assert length(told, "B") == {**length(told, "B"), "value": 32.0, "unit": "cm", "basis": "stated"}
    assert length(told, "A")["value"] == pytest.approx(8, abs=0.5)
    assert [length(told, code)["basis"] for code in "AD"] == ["estimated", "estimated"]


def test_a_stated_width_is_the_width_from_the_front_and_the_height_follows() -> None:
    front, side = (measure(as_jpeg(a_bottle()), view=view, width_cm=8) for view in ("front", "side"))

    assert length(front, "A") == {**length(front, "A"), "value": 8, "unit": "cm", "basis": "stated"}
    assert length(front, "B")["value"] == pytest.approx(32, abs=1.5)
    assert length(front, "B")["basis"] == "estimated"
    assert length(side, "A")["basis"] == "assumed"


@pytest.mark.parametrize("colour", ["grey", "white", "black"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 400), (400, 2), (9, 300), (64, 64)])
def test_a_picture_with_nothing_in_it_makes_a_pack_all_the_same(size: tuple[int, int], colour: str) -> None:
    blank = as_jpeg(Image.new("RGB", size, colour))

    assert read(json.dumps(measure(blank)), RESULT_SCHEMAS["vision.measure"])
    assert read(json.dumps(look_over(blank)), RESULT_SCHEMAS["vision.product"])
    assert read(json.dumps(plan([blank] * 3)), RESULT_SCHEMAS["vision.plan"])
    assert sketch(blank, seed=1, view="back")
    assert close_up(blank, seed=1, shot=10, count=10)
    assert edit(blank, seed=1, edit="product_view")


@pytest.mark.parametrize(
    ("view", "seen_from", "across", "up"),
    [
        ("front", "front", "measured", "measured"),
        ("side", "right", "measured", "measured"),
        ("back", "back", "measured", "measured"),
        ("back", "front", "estimated", "estimated"),
        ("front", "back", "estimated", "estimated"),
        ("side", "front", "assumed", "estimated"),
        ("back", "left", "assumed", "estimated"),
        ("front", "top", "assumed", "assumed"),
        ("side", "detail", "assumed", "assumed"),
    ],
)
def test_only_what_the_photo_shows_is_said_to_be_measured(view: str, seen_from: str, across: str, up: str) -> None:
    told = measure(as_jpeg(a_bottle()), view=view, seen_from=seen_from)

    assert [length(told, code)["basis"] for code in "ABD"] == [across, up, across]
    scaled = measure(as_jpeg(a_bottle()), view=view, seen_from=seen_from, height_cm=32)
    assert "measured" not in {one["basis"] for one in scaled["measurements"]}


@pytest.mark.parametrize(
    ("view", "names"),
    [
        ("front", ["height", "width"]),
        ("left", ["height", "depth"]),
        ("top", ["depth", "width"]),
        ("", ["height", "width"]),
        ("detail", []),
    ],
)
def test_what_a_photo_shows_of_the_size_depends_on_where_it_was_taken_from(view: str, names: list[str]) -> None:
    told = look_over(as_jpeg(a_bottle()), view_type=view)
    stated = look_over(as_jpeg(a_bottle()), view_type=view, height_cm=32, width_cm=8)

    assert [one["name"] for one in told["dimensions"]] == names
    assert {one["unit"] for one in told["dimensions"]} <= {f"% of {name}" for name in names[:1]}
    known = {"height": (32, "stated"), "width": (8, "stated")}
    said = {one["name"]: (one["value"], one["basis"]) for one in stated["dimensions"]}
    assert {name: said[name] for name in names if name in known} == {
        name: known[name] for name in names if name in known
    }
    assert said.get("depth", (1, "estimated"))[1] == "estimated"


def test_a_plan_takes_turns_between_photos_and_begins_with_the_finest_place_of_each() -> None:
    photos = [a_cup(turned=number) for number in range(3)]

    told = plan(photos, count=8, views=["front", "back", "left"])

    assert read(json.dumps(told), RESULT_SCHEMAS["vision.plan"]) == told
    assert [shot["photo"] for shot in told["shots"]] == [1, 2, 3, 1, 2, 3, 1, 2]
    first, second = (spots(Image.open(io.BytesIO(photos[1])).convert("RGB"), 3)[rank] for rank in (0, 1))
    assert told["shots"][1]["title"] == f"Detail 2: back view, {first.place}"
    assert told["shots"][4]["title"] == f"Detail 5: back view, {second.place}"


def test_a_side_that_no_photo_shows_is_said_to_be_assumed() -> None:
    assumed, seen = (measure(as_jpeg(a_bottle()), view="side", seen_from=photo) for photo in ("front", "left"))

    assert length(assumed, "A")["basis"] == "assumed"
    assert length(seen, "A")["basis"] == "measured"
    assert length(assumed, "A")["value"] < 0.5 * length(seen, "A")["value"]


def test_a_product_is_found_before_a_ground_that_is_not_plain() -> None:
    figure = find_figure(a_bottle(a_wooden_ground()))

    assert (figure.told_apart, figure.certain) == (True, False)
    assert figure.picture.width == pytest.approx(100, abs=24)
    assert figure.picture.height == pytest.approx(400, abs=40)


def test_the_palette_is_the_products_not_the_grounds() -> None:
    told = look_over(as_jpeg(a_bottle()), category="bottle", view_type="front")

    assert read(json.dumps(told), RESULT_SCHEMAS["vision.product"]) == told
    assert {colour["name"] for colour in told["colors"]} == {"green"}
    assert sum(colour["share"] for colour in told["colors"]) > 0.95
    assert told["construction"][0]["value"].startswith("symmetrical")
    assert (told["category"], told["product_type"]) == ("kitchen", "ware")


def test_a_sketch_is_drawn_in_lines_with_its_numbers_in_the_margin() -> None:
    told = measure(a_cup())
    parts = {name: told[name] for name in ("callouts", "measurements")}

    plain, marked = (np.asarray(Image.open(io.BytesIO(sketch(a_cup(), seed=1, **more)))) for more in ({}, parts))

    assert np.median(marked) > 250
    dark = (plain.mean(2) < 120).mean()
    assert 0.002 < dark < 0.12
    margin = marked[:, :100].astype(int)
    assert (margin[..., 2] - margin[..., 0] > 60).any()
    assert not (plain[:, :100].astype(int)[..., 2] - plain[:, :100].astype(int)[..., 0] > 60).any()


def test_of_a_face_that_no_photo_shows_there_is_the_outline_alone() -> None:
    front, back = (
        sketch(a_cup(), seed=1, view=view, seen_from=photo) for view, photo in (("front", "back"), ("back", "front"))
    )

    assert front == back != sketch(a_cup(), seed=1)
    labels = [{one["label"] for one in measure(a_cup(), view="front", seen_from=photo)["callouts"]} for photo in VIEWS]
    assert labels[0] > labels[1]


def test_a_view_made_again_shows_the_product_alone_before_a_light_ground() -> None:
    made = Image.open(io.BytesIO(edit(as_jpeg(a_bottle(a_wooden_ground())), seed=1, edit="product_view")))

    pixels = np.asarray(made, int)
    assert made.size == (1600, 1600)
    assert pixels[:80].min() > 200
    middle = pixels[800, 800]
    assert middle[1] > middle[0] + 40


@pytest.mark.parametrize(
    ("instruction", "path", "value"),
    [
        ("Set it to semi-matt.", "materials.0.finish", "semi-matt"),
        ('change the finish to "matt"', "materials.0.finish", "matt"),
        ("add dishwasher safe", "summary", "old; dishwasher safe"),
        ("stoneware", "materials.0.name", "stoneware"),
        ("It is 12,5 cm high, not 9", "dimensions.0.value", 12.5),
        ("Set it to #AA00ff", "colors.0.hex", "#aa00ff"),
        ('Set it to [{"name": "rim", "value": "rolled"}]', "attributes", [{"name": "rim", "value": "rolled"}]),
    ],
)
def test_a_plain_instruction_is_followed(instruction: str, path: str, value: Any) -> None:
    schema = answer_schema(schema_at(path))

    told = edit_field(instruction=instruction, current="old", schema=schema)

    assert read(json.dumps(told), schema)["value"] == value


def test_a_number_too_large_to_be_kept_is_no_answer() -> None:
    schema = answer_schema(schema_at("dimensions.0.value"))

    told = edit_field(instruction="Set it to 99999999999999999999", schema=schema)

    with pytest.raises(ValueError, match="nobody could keep"):
        read(json.dumps(told), schema)


@pytest.mark.parametrize(
    ("instruction", "path"),
    [("taller", "dimensions.0.value"), ("nicer", "colors.0.hex"), ("more of them", "materials")],
)
def test_an_instruction_without_a_value_of_the_kind_is_refused(instruction: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"number|colour|parts"):
        edit_field(instruction=instruction, schema=answer_schema(schema_at(path)))


def test_a_long_instruction_takes_no_time() -> None:
    began = time.monotonic()
    for words in ("set" + " it" * 300 + " x", "set to " + " " * 990 + "x", "add " + " ." * 490 + "x"):
        assert edit_field(instruction=words)["value"]

    assert time.monotonic() - began < 1
