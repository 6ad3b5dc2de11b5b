"""What the local provider makes of a photo: the same room, in a style one can tell, the same for the same seed."""

import io
import re
import time
from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.generation.providers.local import PROVENANCE, stage
from services.generation.providers.local_staging.looks import LOOKS, ROOMS
from services.generation.styles import ROOM_TYPES, STYLES
from shared.images import CorruptImage, UnsupportedImage, off_hub
from tools.demo_room import demo_room


@pytest.fixture(scope="module")
def photo() -> bytes:
    return as_jpeg(opened(demo_room()).resize((640, 480)))


@pytest.fixture(scope="module")
def staged(photo: bytes) -> Callable[..., NDArray[np.float64]]:
    """Give the staged photo as an array of 150 x 200 x 3 code values; each is made once."""
    made: dict[tuple[str, str, int], NDArray[np.float64]] = {}

    def staged(style: str, room_type: str = "living_room", seed: int = 1) -> NDArray[np.float64]:
        key = (style, room_type, seed)
        if key not in made:
            made[key] = pixels(stage(photo, style=style, room_type=room_type, seed=seed))
        return made[key]

    return staged


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def as_jpeg(picture: Image.Image) -> bytes:
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=95)
    return output.getvalue()


def pixels(data: bytes) -> NDArray[np.float64]:
    return np.asarray(opened(data).convert("RGB").resize((200, 150), Image.Resampling.BOX), np.float64)


def brightness(picture: NDArray[np.float64]) -> float:
    return float(picture.mean())


def warmth(picture: NDArray[np.float64]) -> float:
    """How much more red than blue there is."""
    return float((picture[..., 0] - picture[..., 2]).mean())


def colourfulness(picture: NDArray[np.float64]) -> float:
    return float((picture.max(2) - picture.min(2)).mean())


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The mean difference of a pixel, in code values of 255."""
    return float(np.abs(one - other).mean())


def likeness(photo: bytes, picture: NDArray[np.float64]) -> float:
    """How well the edges of the picture match those of the photo (1: all), wherever it was cropped a little."""
    original = opened(photo).convert("L")
    edges = np.stack(np.gradient(picture.mean(2))).ravel()
    best = 0.0
    for part in (0.957, 0.97, 0.985, 0.995):
        for right, down in product((0, 0.25, 0.5, 0.75, 1), repeat=2):
            left, top = (1 - part) * right * original.width, (1 - part) * down * original.height
            box = (left, top, left + part * original.width, top + part * original.height)
            cropped = np.asarray(original.resize((200, 150), Image.Resampling.BOX, box=box), np.float64)
            best = max(best, float(np.corrcoef(np.stack(np.gradient(cropped)).ravel(), edges)[0, 1]))
    return best


def test_every_style_and_room_type_a_client_may_name_has_its_look() -> None:
    assert LOOKS.keys() == STYLES.keys()
    assert ROOMS.keys() == ROOM_TYPES.keys()


def test_the_same_order_gives_the_same_bytes(photo: bytes) -> None:
    first, second = (stage(photo, style="rustic", room_type="bedroom", seed=42) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("style", LOOKS)
def test_two_variants_of_a_style_differ_visibly_and_are_of_one_style(
    staged: Callable[..., NDArray[np.float64]], style: str
) -> None:
    one, other = staged(style, seed=1), staged(style, seed=2)

    assert difference(one, other) > 8
    assert np.abs(one.mean((0, 1)) - other.mean((0, 1))).max() < 30


def test_any_two_styles_differ_visibly(staged: Callable[..., NDArray[np.float64]]) -> None:
    alike = [
        (one, other, difference(staged(one), staged(other)))
        for one, other in combinations(LOOKS, 2)
        if difference(staged(one), staged(other)) < 12
    ]

    assert alike == []


@pytest.mark.parametrize("style", LOOKS)
def test_the_result_is_still_the_same_room(
    photo: bytes, staged: Callable[..., NDArray[np.float64]], style: str
) -> None:
    result = staged(style)
    mirrored = as_jpeg(opened(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT))

    assert likeness(photo, result) > 0.15
    assert likeness(mirrored, result) < 0.08


def test_styles_have_the_light_and_colour_they_are_named_for(staged: Callable[..., NDArray[np.float64]]) -> None:
    looks = {style: staged(style) for style in LOOKS}

    warmest = sorted(looks, key=lambda style: warmth(looks[style]))
    darkest = sorted(looks, key=lambda style: brightness(looks[style]))
    palest = sorted(looks, key=lambda style: colourfulness(looks[style]))
    assert {"rustic", "bohemian", "southwestern"} == set(warmest[-3:])
    assert {"mid_century", "victorian", "traditional"} == set(warmest[-6:-3])
    assert {"modern", "coastal"} <= set(warmest[:4])
    assert {"industrial", "luxury", "art_deco", "victorian"} == set(darkest[:4])
    assert {"scandinavian", "minimalist"} <= set(darkest[-4:])
    assert palest[0] == "minimalist"
    assert palest[-1] in {"bohemian", "rustic"}


def test_colours_of_ones_own_take_the_place_of_the_styles_accents(photo: bytes) -> None:
    given = {"style": "modern", "room_type": "living_room", "seed": 1}

    plain, coloured = stage(photo, **given), stage(photo, **given, colours=("#1d8c3a", "#0b5c22"))

    def greens(picture: NDArray[np.float64]) -> int:
        return int((picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2]) > 20).sum())

    assert greens(pixels(coloured)) > greens(pixels(plain)) + 100
    assert stage(photo, **given, colours=()) == plain


@pytest.mark.parametrize("colour", ["green", "#12345", "#12345g", "123456"])
def test_a_colour_that_is_none_is_refused(photo: bytes, colour: str) -> None:
    with pytest.raises(ValueError, match="is not a colour"):
        stage(photo, style="modern", room_type="living_room", seed=1, colours=(colour,))


@pytest.mark.parametrize("room_type", ROOMS)
def test_every_room_type_is_staged_its_own_way(staged: Callable[..., NDArray[np.float64]], room_type: str) -> None:
    assert room_type == "living_room" or difference(staged("modern", room_type), staged("modern")) > 3


def test_the_result_is_a_bare_jpeg_of_the_photos_shape(photo: bytes) -> None:
    result = opened(stage(photo, style="modern", room_type="living_room", seed=1))

    assert (result.format, result.mode, result.size) == ("JPEG", "RGB", (640, 480))
    assert not result.getexif()


def test_a_large_photo_comes_out_at_2048_pixels_and_within_the_time() -> None:
    large = as_jpeg(opened(demo_room()).resize((4032, 3024)))

    started = time.process_time()
    result = opened(stage(large, style="rustic", room_type="living_room", seed=1))

    assert result.size == (2048, 1536)
    assert time.process_time() - started < 3  # about 1 on the machine it was written on


def test_a_photo_held_upright_stays_upright(photo: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    output = io.BytesIO()
    opened(photo).save(output, "JPEG", exif=exif)

    result = opened(stage(output.getvalue(), style="modern", room_type="hallway", seed=1))

    assert result.size == (480, 640)


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (9, 7), "white"),
        Image.new("RGB", (640, 480), "white"),
        Image.new("RGB", (640, 480), "black"),
        Image.new("L", (320, 200), 128),
        Image.new("RGB", (2000, 40), "grey"),
        Image.new("RGB", (40, 2000), "red"),
        Image.effect_noise((400, 600), 90),
    ],
    ids=["a pixel", "tiny", "white", "black", "grey", "a strip", "a stripe", "noise"],
)
def test_a_photo_that_shows_no_room_is_staged_without_complaint(picture: Image.Image) -> None:
    output = io.BytesIO()
    picture.save(output, "PNG")

    result = opened(stage(output.getvalue(), style="luxury", room_type="living_room", seed=1))

    assert result.size == picture.size


@pytest.mark.parametrize("seed", [0, -5, 2**63, 10**30])
def test_any_whole_number_is_a_seed(photo: bytes, seed: int) -> None:
    assert stage(photo, style="modern", room_type="kitchen", seed=seed).startswith(b"\xff\xd8\xff")


def test_a_style_we_do_not_have_is_refused_with_those_we_have(photo: bytes) -> None:
    with pytest.raises(ValueError, match=re.escape("'baroque' is not a style")) as refusal:
        stage(photo, style="baroque", room_type="living_room", seed=1)

    assert all(style in str(refusal.value) for style in LOOKS)


def test_a_room_type_we_do_not_have_is_refused_with_those_we_have(photo: bytes) -> None:
    with pytest.raises(ValueError, match="'garage' is not a room type") as refusal:
        stage(photo, style="modern", room_type="garage", seed=1)

    assert all(room in str(refusal.value) for room in ROOMS)


@pytest.mark.parametrize(("data", "problem"), [(b"GIF89a", UnsupportedImage), (b"\xff\xd8\xff\xe0", CorruptImage)])
def test_what_is_no_photo_is_refused(data: bytes, problem: type[Exception]) -> None:
    with pytest.raises(problem):
        stage(data, style="modern", room_type="living_room", seed=1)


def test_it_works_in_a_worker_process_just_the_same(photo: bytes) -> None:
    there = off_hub(stage, photo, style="coastal", room_type="bedroom", seed=7)

    assert there == stage(photo, style="coastal", room_type="bedroom", seed=7)
    with pytest.raises(ValueError, match="baroque"):
        off_hub(stage, photo, style="baroque", room_type="bedroom", seed=7)


def test_the_result_is_declared_a_preview_that_is_partly_drawn() -> None:
    assert PROVENANCE == {
        "provider": "local",
        "model": "local-preview-1",
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic",
        "preview": True,
    }
