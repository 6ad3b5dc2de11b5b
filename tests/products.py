"""Pictures of products, drawn: a cup before a plain ground, turned a little further each time."""

import io

from PIL import Image, ImageDraw


def a_cup(*, turned: int = 0) -> bytes:
    """Return a photo of a red cup with a white rim and a handle, which each turn moves, as a JPEG."""
    picture = Image.new("RGB", (800, 640), (236, 236, 232))
    draw = ImageDraw.Draw(picture)
    shift = 24 * turned
    draw.ellipse((500 - shift, 230, 640 - shift, 400), outline=(150, 32, 28), width=30)
    draw.polygon([(240, 160), (560, 160), (520, 500), (280, 500)], fill=(170, 40, 34))
    draw.ellipse((240, 120, 560, 200), fill=(246, 242, 236))
    draw.ellipse((262, 134, 538, 186), fill=(116, 70, 40))
    for line in range(6):
        x = 300 + 36 * line + shift
        draw.line((x, 300, x, 400), fill=(242, 214, 120), width=5)
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=93)
    return output.getvalue()
