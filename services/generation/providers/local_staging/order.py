"""One staging to be done: the look, the kind of room, and the chance its seed stands for."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.generation.providers.local_staging.drawing import Dice, Paint
from services.generation.providers.local_staging.looks import LOOKS, ROOMS, Colour, Look, Room

_COLOUR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for. ``side`` is where the light comes from and the plant stands: -1 left, 1 right."""

    look: Look
    room: Room
    dice: Dice
    side: int

    @property
    def paint(self) -> Paint:
        """Return the palette to draw with."""
        return Paint(accents=self.look.accents, dice=self.dice)


def take_order(*, style: str, room_type: str, seed: int, colours: Sequence[str] = ()) -> Order:
    """Return the order; the same arguments give one that turns out the same.

    ``colours``, written as ``#rrggbb``, take the place of the style's accents.

    Raises:
        ValueError: the style or the room type is not one we have, or a colour is none.
    """
    for name, value, known in (("style", style, LOOKS.keys()), ("room type", room_type, ROOMS.keys())):
        if value not in known:
            raise ValueError(f"{value!r} is not a {name} of the local provider; choose one of {', '.join(known)}")
    digest = hashlib.sha256(f"{style}/{room_type}/{seed}".encode()).digest()
    dice = np.random.default_rng(list(digest))
    side = -1 if dice.random() < 0.5 else 1  # noqa: PLR2004  heads or tails
    usual = LOOKS[style].accents
    given = [_colour(text) for text in colours]
    accents = tuple(given[number % len(given)] for number in range(len(usual))) if given else usual
    return Order(look=replace(LOOKS[style], accents=accents), room=ROOMS[room_type], dice=dice, side=side)


def _colour(text: str) -> Colour:
    found = _COLOUR.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a colour; write it as #rrggbb")
    red, green, blue = (int(part, 16) for part in found.groups())
    return red, green, blue
