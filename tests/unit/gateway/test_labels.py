"""What is written on a picture can be seen, and takes nothing else from it."""

import io

import PIL.Image
import PIL.ImageChops
import pytest

from services.gateway.labels import LABELS, labelled
from shared import xmp

PACKET = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def a_picture(*, size: tuple[int, int], kind: str = "JPEG", colour: str = "darkseagreen") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def opened(data: bytes) -> PIL.Image.Image:
    picture = PIL.Image.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.mark.parametrize("text", LABELS.values())
@pytest.mark.parametrize("size", [(1600, 1200), (600, 900), (160, 120)])
def test_the_label_lies_in_the_lower_left_corner(size: tuple[int, int], text: str) -> None:
    before = a_picture(size=size)

    after = opened(labelled(before, text))

    difference = PIL.ImageChops.difference(opened(before).convert("L"), after.convert("L"))
    box = difference.point(lambda value: 255 if value > 40 else 0).getbbox()  # beyond what JPEG changes
    assert box is not None
    left, top, _right, bottom = box
    assert (after.size, after.format) == (size, "JPEG")
    assert left < size[0] * 0.2
    assert top > size[1] * 0.5
    assert bottom <= size[1]


def plate_on(copy: PIL.Image.Image) -> tuple[int, int, int, int]:
    """Return the box of what is dark on a white picture."""
    box = copy.convert("L").point(lambda value: 255 if value < 150 else 0).getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize("text", LABELS.values())
@pytest.mark.parametrize("size", [(1, 1), (40, 30), (60, 2000), (3000, 8), (160, 120), (3000, 2000)])
def test_on_a_picture_of_any_size_the_words_are_whole_and_large_enough_to_be_read(
    size: tuple[int, int], text: str
) -> None:
    usual = plate_on(opened(labelled(a_picture(size=(1600, 1200), colour="white"), text)))

    copy = opened(labelled(a_picture(size=size, colour="white"), text))

    left, top, right, bottom = plate_on(copy)
    assert 0 < left < right < copy.width
    assert 0 < top < bottom < copy.height
    assert bottom - top >= 15
    assert (right - left) / (bottom - top) == pytest.approx((usual[2] - usual[0]) / (usual[3] - usual[1]), rel=0.1)
    assert (copy.width >= size[0], copy.height >= size[1]) == (True, True)


@pytest.mark.parametrize("colour", ["black", "white", "grey", "yellow", "navy"])
def test_light_letters_on_a_dark_plate_are_seen_on_every_ground(colour: str) -> None:
    text, size = LABELS["virtually_staged"], (1600, 1200)
    plate = plate_on(opened(labelled(a_picture(size=size, colour="white"), text)))

    copy = opened(labelled(a_picture(size=size, colour=colour), text)).convert("L").crop(plate)

    shades = sorted(copy.tobytes())
    assert shades[len(shades) // 4] < 100
    assert shades[-len(shades) // 50] > 230


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_the_file_says_of_itself_stays(kind: str) -> None:
    marked = xmp.embed(a_picture(size=(320, 240), kind=kind), PACKET)

    copy = opened(labelled(marked, LABELS["virtually_staged"]))

    assert copy.info["xmp"] == PACKET
