"""What the pixels of a picture say: its colours, its light, how sharp it is, how it is composed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from services.generation.providers.local_staging.scene import box_mean, luminance_of

_SIDE: Final = 200
_COLOURS: Final = 5
_NAMES: Final = {
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "grey": (130, 130, 130),
    "beige": (216, 200, 172),
    "brown": (110, 75, 48),
    "red": (190, 40, 40),
    "orange": (226, 130, 40),
    "yellow": (232, 206, 70),
    "green": (70, 130, 70),
    "teal": (40, 130, 130),
    "blue": (50, 90, 170),
    "navy": (28, 40, 80),
    "purple": (120, 70, 150),
    "pink": (226, 150, 170),
}
# Pictures of 200 pixels whose neighbours differ by less than this, on a scale of 1, are out of focus or empty.
_SHARP: Final = 0.004
_BRIGHT, _DIM, _FLAT = 0.62, 0.28, 0.12


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is seen; ``colours`` are ``(hex, name, share)``, most common first."""

    colours: list[tuple[str, str, float]]
    lighting: str
    composition: str
    sharpness: float
    width: int
    height: int

    @property
    def sharp(self) -> bool:
        """Whether there is any detail in it."""
        return self.sharpness >= _SHARP


def looked_at(picture: Image.Image) -> Looks:
    """Return what the pixels of an RGB picture say."""
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    tone = luminance_of(np.asarray(small, np.float32) / np.float32(255))
    return Looks(
        colours=_colours(small),
        lighting=_lighting(tone),
        composition=_composition(tone, picture.size),
        sharpness=round(float(np.abs(tone - box_mean(tone, 1)).mean()), 4),
        width=picture.width,
        height=picture.height,
    )


def _colours(small: Image.Image) -> list[tuple[str, str, float]]:
    paletted = small.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    palette = paletted.getpalette() or []
    counts = np.bincount(np.asarray(paletted).ravel(), minlength=_COLOURS)
    total = small.width * small.height
    found = []
    for index in (-counts).argsort(kind="stable")[: np.count_nonzero(counts)]:
        red, green, blue = palette[3 * int(index) : 3 * int(index) + 3]
        found.append(
            (f"#{red:02x}{green:02x}{blue:02x}", colour_name((red, green, blue)), round(int(counts[index]) / total, 3))
        )
    return found


def colour_name(colour: tuple[int, int, int]) -> str:
    """Return the nearest colour that has a plain name."""
    own = _axes(colour)
    return min(_NAMES, key=lambda name: sum((a - b) ** 2 for a, b in zip(own, _axes(_NAMES[name]), strict=True)))


def _axes(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return lightness, and thrice the two axes of hue: a grey is a grey however light it is."""
    red, green, blue = colour
    return (red + green + blue) / 3, 3.0 * (red - green), 3 * ((red + green) / 2 - blue)


def _lighting(tone: np.ndarray) -> str:
    mean, spread = float(tone.mean()), float(tone.std())
    level = "bright" if mean > _BRIGHT else "dim" if mean < _DIM else "even"
    return f"{level}, {'soft' if spread < _FLAT * 1.6 else 'contrasting'}"


def _composition(tone: np.ndarray, size: tuple[int, int]) -> str:
    """Return the format, and whether what stands out is in the middle."""
    away = np.abs(tone - np.median(tone))
    height, width = away.shape
    inner = away[height // 4 : -(-height * 3 // 4), width // 4 : -(-width * 3 // 4)].mean()
    centred = float(inner) > float(away.mean()) * 1.15
    shape = "square" if max(size) / min(size) < 1.1 else "landscape" if size[0] > size[1] else "portrait"  # noqa: PLR2004  a tenth
    return f"{shape}, subject {'in the centre' if centred else 'across the frame'}"
