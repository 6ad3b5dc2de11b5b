"""What is written on a picture can be seen, and takes nothing else from it."""

import io

import PIL.Image
import PIL.ImageChops
import pytest

from services.gateway.labels import LABELS, labelled
from shared import xmp

PACKET = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def a_picture(*, size: tuple[int, int], kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, (120, 160, 120)).save(file, kind)
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_the_file_says_of_itself_stays(kind: str) -> None:
    marked = xmp.embed(a_picture(size=(320, 240), kind=kind), PACKET)

    copy = opened(labelled(marked, LABELS["virtually_staged"]))

    assert copy.info["xmp"] == PACKET
