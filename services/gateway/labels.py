"""What is written on a picture for people to read, where the law or a listing service wants it seen by eye."""

from io import BytesIO
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

    Raises:
        UnsupportedImage, ImageTooLarge, CorruptImage: as `shared.images.inspect`.
    """
    picture = images.decode(data)
    letters = max(_LETTERS_LEAST_PIXELS, min(picture.size) * _LETTERS)
    font = ImageFont.load_default(letters)
    pen = ImageDraw.Draw(picture, "RGBA")
    gap = letters * 0.6
    corner = (2 * gap, picture.height - 2 * gap)
    left, top, right, bottom = pen.textbbox(corner, text, font=font, anchor="ls")
    plate = (left - gap, top - gap, right + gap, bottom + gap)
    pen.rounded_rectangle(plate, radius=gap / 2, fill=_PLATE)
    pen.text(corner, text, font=font, fill=_INK, anchor="ls")
    packet = _packet(data)
    made = images.encode_jpeg(picture)
    return xmp.embed(made, packet) if packet else made


def _packet(data: bytes) -> bytes | None:
    with Image.open(BytesIO(data)) as image:
        packet = image.info.get("xmp")
    return packet.encode() if isinstance(packet, str) else packet
