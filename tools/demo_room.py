"""Draws the room that the demo stages where no photo is given: ray-cast, so that light, shade and perspective are true.

``python -m tools.demo_room OUT.jpg``. Made when it is needed instead of shipped: that takes about two seconds, gives
the same bytes every time, and keeps a picture nobody can review out of the repository.
"""

import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

Plane = NDArray[np.float32]  # one number a ray
Vectors = NDArray[np.float32]  # three rows: x (right), y (up), z (away), in metres; or red, green, blue
Mask = NDArray[np.bool_]
WIDTH, HEIGHT = 1600, 1200
LEFT, RIGHT, TOP, BACK = -2.7, 2.7, 2.6, 5.0
FLOOR, CEILING, LEFT_WALL, RIGHT_WALL, BACK_WALL, FIRST_BOX = range(6)
SKIRTING = 0.11


def _column(*numbers: float) -> Vectors:
    return np.array(numbers, np.float32)[:, None]


EYE = _column(0.35, 1.42, -0.5)
VIEW = 0.82  # half the width of the view, one metre away
SUN = _column(-0.777, 0.546, -0.315)
SKY_LIGHT, SUN_LIGHT = _column(0.93, 0.98, 1.06), _column(1.0, 0.88, 0.68)
SKY_PLACES = [(y, z) for z in (2.95, 3.4, 3.85, 4.3) for y in (1.0, 1.5, 2.05)]
SUN_PLACES = [(0.0, 0.0), (0.012, 0.006), (-0.012, 0.01), (0.004, -0.014)]
WALL_COLOUR, CEILING_COLOUR, PAINT_COLOUR = (
    _column(0.8, 0.79, 0.76),
    _column(0.88, 0.88, 0.87),
    _column(0.92, 0.92, 0.91),
)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A hole in a side wall: z from ``near`` to ``far``, y from ``sill`` to ``head``, metres."""

    near: float
    far: float
    sill: float
    head: float


@dataclass(frozen=True, kw_only=True)
class Box:
    """A thing standing on the floor: its middle (x, z), its size (x, y, z), turned by ``turn`` radians."""

    x: float
    z: float
    size: tuple[float, float, float]
    turn: float
    colour: tuple[float, float, float]


WINDOW = Opening(near=2.75, far=4.5, sill=0.85, head=2.2)
DOOR = Opening(near=2.5, far=3.45, sill=0.0, head=2.1)
BOXES = (
    Box(x=1.9, z=4.3, size=(0.62, 0.5, 0.5), turn=0.3, colour=(0.62, 0.46, 0.29)),
    Box(x=1.97, z=4.27, size=(0.44, 0.86, 0.38), turn=0.12, colour=(0.66, 0.5, 0.33)),
    Box(x=1.3, z=4.6, size=(0.4, 0.34, 0.36), turn=-0.42, colour=(0.57, 0.42, 0.27)),
)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Where the eye's rays end: the points, the surface's direction there, and which surface it is."""

    points: Vectors
    normals: Vectors
    surface: NDArray[np.int8]


def demo_room() -> bytes:
    """Return the room as a JPEG of 1600 x 1200 pixels."""
    hits = _cast()
    light = _colours(hits) * (_sky_light(hits) + _sun_light(hits) + _bounced_light(hits))
    panes = (hits.surface == LEFT_WALL) & _glass(hits.points[1], hits.points[2])
    light[:, panes] = _outside(hits.points[1, panes], hits.points[2, panes])
    return _photographed(light.T.reshape(HEIGHT, WIDTH, 3))


def _cast() -> Hits:
    across = np.linspace(-VIEW, VIEW, WIDTH, dtype=np.float32)
    up = np.linspace(VIEW, -VIEW, HEIGHT, dtype=np.float32) * np.float32(HEIGHT / WIDTH) - np.float32(0.03)
    x, y = (plane.ravel() for plane in np.meshgrid(across, up))
    rays = np.stack([x, y, np.ones_like(x)])
    nearest = np.full(x.size, np.inf, np.float32)
    surface, normals = np.zeros(x.size, np.int8), np.zeros_like(rays)
    planes = ((1, 0.0, 1.0), (1, TOP, -1.0), (0, LEFT, 1.0), (0, RIGHT, -1.0), (2, BACK, -1.0))
    for number, (axis, place, facing) in enumerate(planes):
        distance = (np.float32(place) - EYE[axis]) / rays[axis]
        closer = (distance > 0) & (distance < nearest)
        nearest[closer], surface[closer] = distance[closer], number
        normals[:, closer] = 0
        normals[axis, closer] = facing
    for number, box in enumerate(BOXES, start=FIRST_BOX):
        near = np.flatnonzero(_towards(box, x))
        distance, normal = _meet(box, EYE, rays[:, near])
        closer = distance < nearest[near]
        here = near[closer]
        nearest[here], surface[here], normals[:, here] = distance[closer], number, normal[:, closer]
    return Hits(points=EYE + rays * nearest, normals=normals, surface=surface)


def _towards(box: Box, x: Plane) -> Mask:
    """Tell which rays could meet the box at all, by their slant to the side."""
    reach = max(box.size)
    low, high = ((box.x + way * reach - EYE[0]) / (box.z - EYE[2] - reach) for way in (-1, 1))
    towards: Mask = (x > low) & (x < high)
    return towards


def _meet(box: Box, start: Vectors, rays: Vectors) -> tuple[Plane, Vectors]:
    """Return how far along each ray the box is met (infinity where it is not), and its face's direction there."""
    cosine, sine = np.float32(np.cos(box.turn)), np.float32(np.sin(box.turn))
    half = _column(*box.size) / 2
    middle = _column(box.x, box.size[1] / 2, box.z)

    def turned(vectors: Vectors) -> Vectors:
        return np.stack([cosine * vectors[0] + sine * vectors[2], vectors[1], cosine * vectors[2] - sine * vectors[0]])

    begin, along = turned(start - middle), turned(rays)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-half - begin) / along, (half - begin) / along
    enter, leave = np.minimum(one, other), np.maximum(one, other)
    near = np.maximum(np.maximum(enter[0], enter[1]), enter[2])
    far = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
    face = np.where(enter == near, -np.sign(along), np.float32(0))
    normal = np.stack([cosine * face[0] - sine * face[2], face[1], cosine * face[2] + sine * face[0]])
    return np.where((near < far) & (near > 1e-3), near, np.inf).astype(np.float32), normal  # noqa: PLR2004  not itself


def _sky_light(hits: Hits) -> Vectors:
    """Return what the sky sends through the window, from twelve places of it."""
    sky = np.zeros(hits.surface.size, np.float32)
    for y, z in SKY_PLACES:
        way = _column(LEFT, y, z) - hits.points
        distance = np.maximum(np.sqrt((way * way).sum(0)), np.float32(0.15))
        facing = np.maximum((way * hits.normals).sum(0), 0) * np.maximum(-way[0], 0)
        sky += facing / distance**4 * _unshaded(hits.points, way)
    return sky * np.float32(0.34) * SKY_LIGHT


def _sun_light(hits: Hits) -> Vectors:
    """Return the sun that comes through the panes, from four places of it, so that its edges are a little soft."""
    sun = np.zeros(hits.surface.size, np.float32)
    for up, away in SUN_PLACES:
        way = SUN + _column(0, up, away)
        distance = (np.float32(LEFT) - hits.points[0]) / way[0]
        through = _glass(hits.points[1] + distance * way[1], hits.points[2] + distance * way[2])
        sun += through * (distance > 0) * np.maximum((way * hits.normals).sum(0), 0)
    return sun * _unshaded(hits.points, np.broadcast_to(SUN, hits.points.shape)) * np.float32(0.55) * SUN_LIGHT


def _bounced_light(hits: Hits) -> Vectors:
    """Return what walls and floor throw back: less in corners and beside the boxes, more around the sunlit floor."""
    x, y, z = hits.points
    openness = np.ones_like(x)
    for distance, axis in ((x - LEFT, 0), (RIGHT - x, 0), (y, 1), (TOP - y, 1), (BACK - z, 2)):
        along = np.abs(hits.normals[axis]) < 0.5  # noqa: PLR2004  a surface does not darken itself
        openness *= np.where(along, 1 - 0.36 * np.exp(-np.maximum(distance, 0) / 0.3), 1)
    for box in BOXES:
        beside = np.hypot(x - box.x, z - box.z) - max(box.size[0], box.size[2]) * 0.55
        openness *= np.where(hits.surface == FLOOR, 1 - 0.5 * np.exp(-np.maximum(beside, 0) / 0.12), 1)
    away = np.sqrt((x + 0.2) ** 2 + y**2 + (z - 4) ** 2)
    bounced: Vectors = openness * (_column(0.27, 0.26, 0.25) + 0.2 * np.exp(-away / 1.6) * SUN_LIGHT)
    return bounced


def _unshaded(points: Vectors, way: Vectors) -> Plane:
    """Return 0 where a box stands in the way. Light comes from the left, so only low points right of them matter."""
    lit = np.ones(points.shape[1], np.float32)
    behind = np.flatnonzero((points[0] > 1.0) & (points[1] < 1.0))
    for box in BOXES:
        distance, _ = _meet(box, points[:, behind], way[:, behind])
        lit[behind] *= np.isinf(distance)
    return lit


def _glass(y: Plane, z: Plane) -> Mask:
    """Tell what is glass in the plane of the window: two panes wide, two high."""
    frame, middle = 0.06, (WINDOW.near + WINDOW.far) / 2
    bars: Mask = (np.abs(z - middle) < frame / 1.5) | (np.abs(y - WINDOW.sill - 0.85) < frame / 2)
    return _within(WINDOW, y, z, edge=-frame) & ~bars


def _within(opening: Opening, y: Plane, z: Plane, *, edge: float = 0.0) -> Mask:
    inside_y: Mask = (y > opening.sill - edge) & (y < opening.head + edge)
    inside_z: Mask = (z > opening.near - edge) & (z < opening.far + edge)
    return inside_y & inside_z


def _colours(hits: Hits) -> Vectors:
    x, y, z = hits.points
    colours = np.empty_like(hits.points)
    walls = (hits.surface >= LEFT_WALL) & (hits.surface <= BACK_WALL)
    colours[:, walls] = WALL_COLOUR * (0.985 + 0.03 * _noise((x + z)[walls] * 2, y[walls] * 2))
    colours[:, hits.surface == CEILING] = CEILING_COLOUR
    floor = hits.surface == FLOOR
    colours[:, floor] = _planks(x[floor], z[floor])
    skirting = walls & (y < SKIRTING)
    colours[:, skirting] = np.where(np.abs(y[skirting] - 0.1) < 0.006, 0.6, PAINT_COLOUR)  # noqa: PLR2004  its groove
    colours[:, (hits.surface == LEFT_WALL) & _within(WINDOW, y, z, edge=0.09)] = PAINT_COLOUR
    door = (hits.surface == RIGHT_WALL) & _within(DOOR, y, z)
    colours[:, door] = _door(z[door] - DOOR.near, y[door])
    for number, box in enumerate(BOXES, start=FIRST_BOX):
        card = hits.surface == number
        stains = 0.92 + 0.16 * _noise(x[card] * 9 + z[card] * 5, y[card] * 9)
        tape = np.where(np.abs(x[card] - box.x) < 0.03, 1.18, 1)  # noqa: PLR2004  half the width of the tape
        colours[:, card] = _column(*box.colour) * (stains * tape)
    return colours


def _planks(x: Plane, z: Plane) -> Vectors:
    """Return oak boards 14 cm wide that run away from the eye, each a little different, with grain and gaps."""
    board = np.floor(x / 0.14)
    start = np.modf(board * 0.618)[0] * 1.7
    piece = np.floor((z + start) / 1.7)
    tone = 0.8 + 0.36 * np.modf(np.abs(np.sin(board * 12.9898 + piece * 78.233)) * 43758.5453)[0]
    grain = (0.9 + 0.2 * _noise(x * 46 + board * 7.3, z * 1.7 + piece * 3.1)) * (0.95 + 0.1 * _noise(x * 170, z * 5))
    across, along = np.modf(x / 0.14 + 100)[0], np.modf((z + start) / 1.7 + 100)[0]
    gap = (np.minimum(across, 1 - across) < 0.014) | (along < 0.004)  # noqa: PLR2004  shares of a board
    planks: Vectors = _column(0.5, 0.33, 0.19) * (tone * grain * np.where(gap, 0.45, 1)).astype(np.float32)
    return planks


def _door(across: Plane, up: Plane) -> Vectors:
    """Return a white door of two panels, with its handle; places are metres from its hinge and from the floor."""
    sides = np.minimum(across - 0.14, 0.81 - across)
    groove = np.zeros(across.size, np.bool_)
    for low, high in ((0.2, 0.95), (1.1, 1.95)):
        groove |= np.abs(np.minimum(sides, np.minimum(up - low, high - up))) < 0.012  # noqa: PLR2004  its width
    rim = np.minimum(np.minimum(across, 0.95 - across), 2.1 - up) < 0.03  # noqa: PLR2004  the gap around the door
    handle = (np.abs(up - 1.02) < 0.018) & (np.abs(across - 0.12) < 0.05)  # noqa: PLR2004  half its height and width
    white = np.where(groove, 0.64, np.where(rim, 0.7, 0.86)) * _column(1, 0.99, 0.97)
    return np.where(handle, _column(0.3, 0.28, 0.25), white).astype(np.float32)


def _outside(y: Plane, z: Plane) -> Vectors:
    """Return what the panes show: a bright sky above hedges, out of focus."""
    hedge = 1 / (1 + np.exp((y - 1.32 - 0.16 * _noise(z * 2.3, z * 0)) * 22))
    leaves = _column(0.32, 0.5, 0.22) * (0.7 + 0.7 * _noise(z * 5, y * 5))
    outside: Vectors = leaves * hedge + _column(1.5, 1.62, 1.75) * (1 - hedge)
    return outside


_BUMPS = np.pad(np.random.default_rng(7).random((64, 64), np.float32), ((0, 1), (0, 1)), mode="wrap").ravel()


def _noise(u: Plane, v: Plane) -> Plane:
    """Return smooth noise of 0 to 1, one bump a unit."""
    whole_u, whole_v = np.floor(u), np.floor(v)
    corner = (whole_u.astype(np.int32) & 63) * 65 + (whole_v.astype(np.int32) & 63)
    part_u, part_v = u - whole_u, v - whole_v
    part_u, part_v = part_u * part_u * (3 - 2 * part_u), part_v * part_v * (3 - 2 * part_v)
    low = _BUMPS[corner] * (1 - part_u) + _BUMPS[corner + 65] * part_u
    high = _BUMPS[corner + 1] * (1 - part_u) + _BUMPS[corner + 66] * part_u
    bumps: Plane = (low * (1 - part_v) + high * part_v).astype(np.float32)
    return bumps


def _photographed(light: NDArray[np.float32]) -> bytes:
    """Return the light as a camera keeps it: film curve, glare of the window, a breath of blur and grain."""
    exposed = 1 - np.exp(-light * np.float32(1.7))
    codes = np.maximum(1.055 * exposed ** np.float32(1 / 2.4) - 0.055, 0)
    picture = Image.fromarray((np.clip(codes, 0, 1) * 255).astype(np.uint8))
    glare = picture.point([max(0, value - 225) * 3 for value in range(256)] * 3).filter(ImageFilter.GaussianBlur(34))
    picture = ImageChops.screen(picture.filter(ImageFilter.GaussianBlur(0.8)), glare)
    grain = np.random.default_rng(11).standard_normal((HEIGHT, WIDTH, 1), np.float32) * np.float32(1.5)
    picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    output = BytesIO()
    picture.save(output, "JPEG", quality=86)
    return output.getvalue()


def main(arguments: list[str]) -> int:
    """Write the room to the file named; 2 if none is."""
    if len(arguments) != 1:
        print("usage: python -m tools.demo_room OUT.jpg", file=sys.stderr)
        return 2
    Path(arguments[0]).write_bytes(demo_room())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
