"""What is written on a picture for people to read, where the law or a listing service wants it seen by eye."""

from io import BytesIO
from math import ceil
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from shared import images, xmp
from shared.line import Line
from shared.off_hub import off_hub
from shared.problems import NotFound
from shared.storage import ObjectMissing, ObjectStore

LABELS: Final = {"virtually_staged": "Virtually staged", "ai_generated": "AI-generated"}

# Of the picture's shorter side: letters that are read on a phone, and take little of the room.
_LETTERS, _LETTERS_LEAST_PIXELS = 0.035, 10
_INK, _PLATE = (255, 255, 255, 255), (0, 0, 0, 170)


def copy_of(store: ObjectStore, line: Line, key: str, *, org_id: str, label: str) -> bytes:
    """Return a JPEG of the image under ``key`` with one of `LABELS` on it; the image itself stays as it is.

    Raises:
        NotFound: the image was deleted in this very moment.
        WorkFailed: the picture took too long or too much memory.
        Unavailable: too many pictures of the organization wait for their turn already.
        StorageUnavailable: the store does not answer.
    """
    with line.place_of(org_id):
        try:
            data = b"".join(store.open(key))
        except ObjectMissing as error:
            raise NotFound("There is no such image; it was deleted just now.") from error
        return off_hub(labelled, data, LABELS[label])


def labelled(data: bytes, text: str) -> bytes:
    """Return a JPEG of the image with ``text`` in its lower left corner, and what the file says of itself kept.

    An image that is too small for words that can be read is set on as much white paper as they need.

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: as `shared.images.inspect`.
    """
    picture = images.decode(data)
    letters = max(_LETTERS_LEAST_PIXELS, min(picture.size) * _LETTERS)
    font = ImageFont.load_default(letters)
    gap = letters * 0.6
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    picture = _at_least(picture, width=ceil(right - left + 4 * gap), height=ceil(bottom - top + 4 * gap))
    pen = ImageDraw.Draw(picture, "RGBA")
    x, y = 2 * gap - left, picture.height - 2 * gap - bottom
    plate = (x + left - gap, y + top - gap, x + right + gap, y + bottom + gap)
    pen.rounded_rectangle(plate, radius=gap / 2, fill=_PLATE)
    pen.text((x, y), text, font=font, fill=_INK, anchor="ls")
    packet = _packet(data)
    made = images.encode_jpeg(picture)
    return xmp.embed(made, packet) if packet else made


def _at_least(picture: Image.Image, *, width: int, height: int) -> Image.Image:
    if picture.width >= width and picture.height >= height:
        return picture
    paper = Image.new("RGB", (max(width, picture.width), max(height, picture.height)), "white")
    paper.paste(picture)
    return paper


def _packet(data: bytes) -> bytes | None:
    with Image.open(BytesIO(data)) as image:
        packet = image.info.get("xmp")
    return packet.encode() if isinstance(packet, str) else packet
