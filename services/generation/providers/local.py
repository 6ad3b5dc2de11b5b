"""The ``local`` provider: every operation without any service, the same way for the same seed.

It stages a photo of a room (repaints walls and floor, changes the light, calms what lies about, hangs and stands a few
things, and prints the result in the style's way), sets a product into a scene, and does plainer image work for the
other operations: previews of what an image model would make, and marked as such. Its analyses tell what pixels, names
and metadata do, and how sure that is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

from PIL import Image

from services.generation import analyses
from services.generation.operations import AfterLostAnswer, Answered, MadeImage, Outcome, Refused
from services.generation.providers import Request
from services.generation.providers.local_analyses.analyses import analyze, analyze_text, categorize, plan
from services.generation.providers.local_analyses.editing import edit_field
from services.generation.providers.local_analyses.products import look_over
from services.generation.providers.local_pictures.details import close_up
from services.generation.providers.local_pictures.edited import edit
from services.generation.providers.local_pictures.emptied import empty_room
from services.generation.providers.local_pictures.headshot import headshot
from services.generation.providers.local_pictures.sketch import sketch
from services.generation.providers.local_products.measures import measure
from services.generation.providers.local_products.scene import product_scene
from services.generation.providers.local_staging.decor import hang_picture, lay_rug, with_lamp, with_plant
from services.generation.providers.local_staging.drawing import Dice
from services.generation.providers.local_staging.grade import colour_grade, with_bloom, with_grain, with_vignette
from services.generation.providers.local_staging.order import Order, take_order
from services.generation.providers.local_staging.paintwork import calmed, developed, relight, repaint
from services.generation.providers.local_staging.scene import read_scene
from shared.images import decode, encode_jpeg
from shared.off_hub import WorkFailed, off_hub
from shared.problems import Problem

SIDE_MAX = 2048
MODEL = "local-preview-1"
PROVENANCE = {
    "provider": "local",
    "model": MODEL,
    # Partly photographed, partly drawn: https://cv.iptc.org/newscodes/digitalsourcetype/
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic",
    "preview": True,
}


def stage(photo: bytes, *, style: str, room_type: str, seed: int, colours: Sequence[str] = ()) -> bytes:
    """Return the photo staged in ``style`` as a JPEG of at most 2048 pixels on its longer side.

    The same arguments give the same bytes; another seed gives another light, crop, palette and decor. ``colours``
    (``#rrggbb``) are accents to use in the place of the style's.
    About a second of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: the style or the room type is not one we have, or a colour is none.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    order = take_order(style=style, room_type=room_type, seed=seed, colours=colours)
    scene = read_scene(_cropped(decode(photo, side=SIDE_MAX), order.dice))
    light = calmed(scene)
    repaint(light, scene, order)
    lay_rug(light, scene, order)
    hang_picture(light, scene, order)
    relight(light, scene, order)
    return encode_jpeg(_printed(developed(light, order), order), quality=90)


def _cropped(picture: Image.Image, dice: Dice) -> Image.Image:
    """Step a little closer, off the middle."""
    width, height = picture.size
    keep = 1 - dice.uniform(0.005, 0.045)
    left, top = dice.uniform(0, 1 - keep) * width, dice.uniform(0, 1 - keep) * height
    box = (left, top, left + keep * width, top + keep * height)
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _printed(picture: Image.Image, order: Order) -> Image.Image:
    grade = colour_grade(order.look, room=order.room, dice=order.dice)
    picture = with_bloom(with_lamp(picture.filter(grade), order), order.look.bloom)
    picture = with_vignette(with_plant(picture, order, grade=grade), order.look.vignette)
    return with_grain(picture, order.look.grain, dice=order.dice)


# What does each operation. Pictures: from the first source, the parameters they know and the seed to a JPEG.
_PICTURES: Mapping[str, Callable[..., bytes]] = {
    "image.stage": stage,
    "image.empty_room": empty_room,
    "image.product_scene": product_scene,
    "image.headshot": headshot,
    "image.close_up": close_up,
    "image.sketch": sketch,
    "image.edit": edit,
}
# Analyses: from the first source or from all, where they look at any, and the parameters they know to a result.
_ANALYSES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "vision.analyze": analyze,
    "vision.category": categorize,
    "vision.edit": edit_field,
    "vision.measure": measure,
    "vision.plan": plan,
    "vision.product": look_over,
    "text.analyze": analyze_text,
}


class LocalProvider:
    """Does the work in our own worker processes: no key, no cost, nothing leaves the machine."""

    name = "local"
    operations = frozenset(_PICTURES) | frozenset(_ANALYSES)
    after_lost_answer: AfterLostAnswer = "resend"
    time_limit_seconds = 120.0  # waiting for a worker process, starting it, and the work itself
    concurrency = 4
    requests_per_minute = None
    calls_back = False

    def model_for(self, _operation: str) -> str:
        """Return the one it has."""
        return MODEL

    def expected_cost_microusd(self, _operation: str, _parameters: Mapping[str, Any]) -> int:
        """Return 0: it is our own machine."""
        return 0

    def submit(self, request: Request) -> Outcome:
        """Work on the first source of ``request``, or on all; the functions above say which parameters they know."""
        pictured = request.name in _PICTURES
        work: Callable[..., Any] = _PICTURES[request.name] if pictured else _ANALYSES[request.name]
        known = signature(work).parameters
        given = {name: value for name, value in {**request.parameters, "seed": request.seed}.items() if name in known}
        sources: Sequence[Any] = request.sources[:1] if "photo" in known else ()
        if "photos" in known and request.sources:
            sources = [list(request.sources)]
        missing = _missing(known, given, sources)
        if missing:
            return Refused(code="invalid_input", detail=f"{request.name} needs {', '.join(missing)}")
        try:
            made = off_hub(work, *sources, **given)
        except WorkFailed as problem:
            return Refused(code="provider_error", detail=problem.detail)
        except (Problem, ValueError) as error:
            return Refused(code="invalid_input", detail=str(error))
        return _pictured(made) if pictured else _analysed(made, request)


def create(_environment: Mapping[str, str]) -> LocalProvider:
    """Return the provider: it is always there."""
    return LocalProvider()


def _missing(known: Mapping[str, Parameter], given: Mapping[str, Any], sources: Sequence[Any]) -> list[str]:
    """Return what the work cannot do without and was not given."""
    needed = [name for name, parameter in known.items() if parameter.default is Parameter.empty]
    return [name for name in needed if name not in given and not (name in {"photo", "photos"} and sources)]


def _pictured(picture: bytes) -> Answered:
    image = MadeImage(data=picture, content_type="image/jpeg")
    return Answered(images=(image,), model=MODEL, provenance=dict(PROVENANCE))


def _analysed(result: dict[str, Any], request: Request) -> Outcome:
    """Return the result, unless a workflow wants it in a shape that only a model could give it."""
    try:
        fitting = analyses.read(json.dumps(result), analyses.schema_for(request.name, request.parameters))
    except ValueError as error:
        return Refused(code="invalid_input", detail=f"the local provider cannot answer that way: {error}")
    return Answered(result=fitting, model=MODEL)
