"""Sets the original and its results side by side on one labelled sheet, for a person to compare.

``python -m tools.contact_sheet OUT.jpg ORIGINAL.jpg [LABEL=]RESULT.jpg …``
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE_WIDTH = 640
COLUMNS_MAX = 3
MARGIN = 20
LABEL_HEIGHT = 44
PAPER, INK = (250, 249, 246), (40, 40, 42)


def contact_sheet(*, original: Path, results: list[tuple[str, Path]], out: Path) -> None:
    """Write a sheet of ``original`` and the labelled ``results`` to ``out``; the kind of file is told by its ending.

    Raises:
        OSError: a picture cannot be read, or the sheet not be written.
    """
    tiles = [_tile("original", original), *(_tile(label, path) for label, path in results)]
    columns = min(COLUMNS_MAX, len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    width = columns * (TILE_WIDTH + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, sum(heights) + MARGIN * (len(rows) + 1)), PAPER)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (MARGIN + column * (TILE_WIDTH + MARGIN), top))
        top += height + MARGIN
    sheet.save(out, quality=90)


def _tile(label: str, path: Path) -> Image.Image:
    """Return the picture at the width of a tile with its label below."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture = picture.resize((TILE_WIDTH, round(picture.height * TILE_WIDTH / picture.width)), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (TILE_WIDTH, picture.height + LABEL_HEIGHT), PAPER)
    tile.paste(picture)
    font = ImageFont.load_default(size=24)
    ImageDraw.Draw(tile).text((2, picture.height + 8), label, fill=INK, font=font)
    return tile


def main(arguments: list[str]) -> int:
    """Write the sheet the arguments ask for; 2 if they do not."""
    if len(arguments) < 3:  # noqa: PLR2004  the sheet, the original, one result
        print(
            "usage: python -m tools.contact_sheet OUT.jpg ORIGINAL.jpg [LABEL=]RESULT.jpg ...",
            file=sys.stderr,
        )
        return 2
    out, original, *results = arguments
    labelled = [
        (label or Path(path).stem, Path(path)) for label, _, path in (result.rpartition("=") for result in results)
    ]
    contact_sheet(original=Path(original), results=labelled, out=Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
