"""What the local provider makes of the photo of a product: the product itself, in a scene of the style."""

import io
import re
import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from services.generation.operations import Answered, Refused
from services.generation.providers import Request, available
from services.generation.providers.local import PROVENANCE
from services.generation.providers.local_products.cutout import cut_out
from services.generation.providers.local_products.scene import product_scene
from services.generation.providers.local_staging.looks import LOOKS
from services.generation.workflows.studio import ASPECT_RATIOS
from shared.images import CorruptImage, UnsupportedImage, off_hub

RED, STRIPE = (204, 32, 40), (250, 250, 248)
ORDER: dict[str, Any] = {"style": "modern", "room_type": "living_room", "aspect_ratio": "1:1", "seed": 1}


def jar(*, background: tuple[int, int, int] = (244, 244, 242), shadow: bool = False, below: int = 0) -> Image.Image:
    """A red jar with a white stripe: 160 x 260 pixels in the middle of 480 x 480, ``below`` it moved down."""
    picture = Image.new("RGB", (480, 480), background)
    if shadow:
        shade = Image.new("L", picture.size, 0)
        ImageDraw.Draw(shade).ellipse((170, 350, 390, 386), fill=110)
        picture.paste((120, 120, 120), mask=shade.filter(ImageFilter.GaussianBlur(10)))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((160, 110 + below, 319, 369 + below), fill=RED)
    draw.rectangle((200, 220 + below, 279, 260 + below), fill=STRIPE)
    return picture


def as_png(picture: Image.Image) -> bytes:
    output = io.BytesIO()
    picture.save(output, "PNG")
    return output.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def pixels(data: bytes) -> NDArray[np.float64]:
    return np.asarray(opened(data).convert("RGB").resize((128, 128), Image.Resampling.BOX), np.float64)


def difference(one: bytes, other: bytes) -> float:
    """The mean difference of a pixel, in code values of 255."""
    return float(np.abs(pixels(one) - pixels(other)).mean())


def share_of_colour(data: bytes, colour: tuple[int, int, int]) -> float:
    """Which share of the picture has about that colour."""
    return float((np.abs(np.asarray(opened(data), np.int16) - colour).max(-1) < 26).mean())


@pytest.fixture(scope="module")
def scene() -> Callable[..., bytes]:
    """Make the scene of the jar; each is made once."""
    photo, made = as_png(jar(shadow=True)), {}

    def scene(**changes: Any) -> bytes:
        key = tuple(sorted(changes.items()))
        if key not in made:
            made[key] = product_scene(photo, **{**ORDER, "side": 384, **changes})
        return made[key]

    return scene


def test_the_same_order_gives_the_same_bytes() -> None:
    photo = as_png(jar(shadow=True))

    assert product_scene(photo, **ORDER) == product_scene(photo, **ORDER)


def test_the_four_variants_of_a_product_differ_visibly(scene: Callable[..., bytes]) -> None:
    variants = [scene(seed=5 + number * 7919) for number in range(4)]

    assert min(difference(one, other) for one, other in combinations(variants, 2)) > 4


def test_any_two_styles_differ_visibly(scene: Callable[..., bytes]) -> None:
    alike = [
        (one, other) for one, other in combinations(LOOKS, 2) if difference(scene(style=one), scene(style=other)) < 4
    ]

    assert alike == []


@pytest.mark.parametrize("style", LOOKS)
def test_the_product_is_there_in_its_own_colours_in_every_style(scene: Callable[..., bytes], style: str) -> None:
    result = scene(style=style)

    assert 0.08 < share_of_colour(result, RED) < 0.4


def test_nothing_is_left_of_the_plain_background(scene: Callable[..., bytes]) -> None:
    result = scene(style="luxury")

    # The stripe of the product is white; the room around it is dark.
    assert share_of_colour(result, (244, 244, 242)) < 0.06


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_the_result_is_a_bare_jpeg_of_the_aspect_ratio_asked_for(aspect_ratio: str) -> None:
    across, down = (int(part) for part in aspect_ratio.split(":"))

    result = opened(product_scene(as_png(jar()), **{**ORDER, "aspect_ratio": aspect_ratio}))

    assert (result.format, result.mode, max(result.size)) == ("JPEG", "RGB", 1024)
    assert result.width / result.height == pytest.approx(across / down, rel=0.002)
    assert not result.getexif()


@pytest.mark.parametrize("wrong", ["", "1", "0:1", "1:0", "16:3", "1:5", "1.5:1", "-1:1", "1:1 ", "100:100"])
def test_what_is_no_aspect_ratio_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(wrong))):
        product_scene(as_png(jar()), **{**ORDER, "aspect_ratio": wrong})


def test_a_style_we_do_not_have_is_refused_with_those_we_have() -> None:
    with pytest.raises(ValueError, match="'baroque' is not a style") as refusal:
        product_scene(as_png(jar()), **{**ORDER, "style": "baroque"})

    assert all(style in str(refusal.value) for style in LOOKS)


@pytest.mark.parametrize("background", [(255, 255, 255), (244, 244, 242), (16, 16, 18), (120, 160, 200)])
def test_a_product_before_a_plain_background_is_cut_out_to_its_edge(background: tuple[int, int, int]) -> None:
    found = cut_out(jar(background=background))

    assert found is not None
    assert found.whole
    assert found.picture.size == pytest.approx((160, 260), abs=3)
    assert np.asarray(found.picture.getchannel("A"))[5:-5, 5:-5].min() == 255


def test_what_has_the_colour_of_the_background_inside_the_product_stays() -> None:
    found = cut_out(jar(background=STRIPE))

    assert found is not None
    assert found.picture.getpixel((found.picture.width // 2, found.picture.height // 2)) == (*STRIPE, 255)


def test_the_shadow_on_the_background_does_not_go_along() -> None:
    found = cut_out(jar(shadow=True))

    assert found is not None
    assert found.picture.size == pytest.approx((160, 260), abs=12)


def test_a_background_that_grows_darker_to_one_side_is_plain_still() -> None:
    picture = np.asarray(jar(), np.float64) * np.linspace(1, 0.8, 480)[None, :, None]

    found = cut_out(Image.fromarray(picture.astype(np.uint8)))

    assert found is not None
    assert found.picture.size == pytest.approx((160, 260), abs=3)


def test_noise_of_a_camera_does_not_hide_the_background() -> None:
    noise = np.random.default_rng(1).normal(0, 4, (480, 480, 3))

    found = cut_out(Image.fromarray(np.clip(np.asarray(jar()) + noise, 0, 255).astype(np.uint8)))

    assert found is not None
    assert found.picture.size == pytest.approx((160, 260), abs=6)


def test_a_product_that_the_photo_cuts_off_below_rises_from_the_lower_edge() -> None:
    photo = jar(below=200)

    found = cut_out(photo)
    result = np.asarray(opened(product_scene(as_png(photo), **ORDER)), np.int16)

    assert found is not None
    assert not found.whole
    assert (np.abs(result[-1] - RED).max(-1) < 60).mean() > 0.2


def test_the_hole_a_photo_came_with_is_its_background_whatever_colours_the_product_has() -> None:
    white_on_nothing = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    ImageDraw.Draw(white_on_nothing).rectangle((100, 60, 199, 239), fill=(255, 255, 255, 255))

    result = product_scene(as_png(white_on_nothing), **{**ORDER, "style": "luxury"})

    assert 0.08 < share_of_colour(result, (252, 252, 252)) < 0.4


def test_a_photo_without_plain_background_hangs_there_framed() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
    busy = Image.fromarray(colours).resize((360, 360), Image.Resampling.NEAREST)

    result = np.asarray(opened(product_scene(as_png(busy), **ORDER)), np.int16)

    assert cut_out(busy) is None
    # Walls and ground are calm, the print is not: it lies well inside.
    contrast = np.abs(np.diff(result.sum(-1), axis=1)) > 120
    rows, columns = np.flatnonzero(contrast.sum(1) > 3), np.flatnonzero(contrast.sum(0) > 3)
    assert rows[0] > 10
    assert rows[-1] < 900
    assert columns[0] > 60
    assert columns[-1] < 964


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (9, 7), "white"),
        Image.new("RGB", (640, 480), "white"),
        Image.new("RGB", (640, 480), "black"),
        Image.new("RGBA", (64, 64), (0, 0, 0, 0)),
        Image.new("RGBA", (64, 64), (200, 10, 10, 90)),
        Image.new("LA", (40, 60), (128, 255)),
        Image.new("1", (50, 50), 1),
        Image.new("I;16", (50, 50), 30000),
        jar().convert("P"),
        Image.new("RGB", (2000, 12), "grey"),
        Image.new("RGB", (12, 2000), "red"),
        Image.effect_noise((400, 600), 90),
    ],
    ids=[
        *("a pixel", "tiny", "white", "black", "nothing at all", "a veil", "grey with alpha", "a bit a pixel"),
        *("16 bits", "a palette", "a strip", "a stripe", "noise"),
    ],
)
def test_a_photo_that_shows_no_product_makes_a_picture_without_complaint(picture: Image.Image) -> None:
    result = opened(product_scene(as_png(picture), **ORDER, side=256))

    assert result.size == (256, 256)


def test_a_palette_with_a_transparent_colour_is_cut_out_by_it() -> None:
    picture = Image.new("P", (100, 100), 0)
    picture.putpalette([255, 255, 255, 204, 32, 40])
    picture.paste(1, (30, 20, 70, 80))
    output = io.BytesIO()
    picture.save(output, "PNG", transparency=0)

    assert share_of_colour(product_scene(output.getvalue(), **ORDER), RED) > 0.08


def test_a_photo_held_upright_stays_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    output = io.BytesIO()
    jar(below=200).rotate(90).save(output, "PNG", exif=exif)

    result = np.asarray(opened(product_scene(output.getvalue(), **ORDER)), np.int16)

    assert (np.abs(result[-1] - RED).max(-1) < 60).mean() > 0.2


@pytest.mark.parametrize("seed", [0, -5, 2**63, 10**30])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    assert product_scene(as_png(jar()), **{**ORDER, "seed": seed}, side=256).startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(("data", "problem"), [(b"GIF89a", UnsupportedImage), (b"\xff\xd8\xff\xe0", CorruptImage)])
def test_what_is_no_photo_is_refused(data: bytes, problem: type[Exception]) -> None:
    with pytest.raises(problem):
        product_scene(data, **ORDER)


def test_a_large_photo_is_done_well_below_a_second() -> None:
    large = as_png(jar(shadow=True).resize((2400, 2400)))
    product_scene(large, **ORDER)

    started = time.process_time()
    product_scene(large, **ORDER)

    assert time.process_time() - started < 1  # about 0.3 on the machine it was written on


def asked(**changes: Any) -> Request:
    order = {name: value for name, value in ORDER.items() if name != "seed"}
    fields = {"sources": (as_png(jar()),), "seed": 1, "parameters": order, **changes}
    return Request(operation_id="op_1", name="image.product_scene", prompt="", model="local-preview-1", **fields)


def test_the_local_provider_does_it_in_a_worker_process_just_the_same() -> None:
    photo = as_png(jar())

    outcome = available({})["local"].submit(asked())

    assert isinstance(outcome, Answered)
    (image,) = outcome.images
    assert (image.content_type, outcome.provenance) == ("image/jpeg", PROVENANCE)
    assert image.data == off_hub(product_scene, photo, **ORDER) == product_scene(photo, **ORDER)


@pytest.mark.parametrize(
    "wrong",
    [{"sources": (b"GIF89a",)}, {"parameters": {**asked().parameters, "style": "baroque"}}],
    ids=["GIF", "style"],
)
def test_the_local_provider_refuses_what_cannot_be_done_and_never_raises(wrong: dict[str, Any]) -> None:
    outcome = available({})["local"].submit(asked(**wrong))

    assert isinstance(outcome, Refused)
    assert outcome.code == "invalid_input"
