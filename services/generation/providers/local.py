"""The ``local`` provider: image work without any service, the same way for the same seed.

It stages a photo of a room (repaints walls and floor, changes the light, calms what lies about, hangs and stands a few
things, and prints the result in the style's way) or sets a product into a scene. Previews of what an image model would
make, and marked as such.
"""

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from services.generation.operations import AfterLostAnswer, Answered, MadeImage, Outcome, Refused
from services.generation.providers import Request
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


def stage(photo: bytes, *, style: str, room_type: str, seed: int) -> bytes:
    """Return the photo staged in ``style`` as a JPEG of at most 2048 pixels on its longer side.

    The same arguments give the same bytes; another seed gives another light, crop, palette and decor.
    About a second of CPU: call it through `shared.off_hub`.

    Raises:
        ValueError: the style or the room type is not one we have.
        UnsupportedImage, ImageTooLarge, CorruptImage: the photo is none, see shared.images.
    """
    order = take_order(style=style, room_type=room_type, seed=seed)
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


# What does each operation: from the first source, the operation's parameters and its seed to a JPEG.
_WORK: Mapping[str, Callable[..., bytes]] = {"image.stage": stage, "image.product_scene": product_scene}


class LocalProvider:
    """Does the work in our own worker processes: no key, no cost, nothing leaves the machine."""

    name = "local"
    operations = frozenset(_WORK)
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
        """Work on the first source of ``request``; see `stage` and `product_scene` for the parameters."""
        work = _WORK[request.name]
        try:
            picture = off_hub(work, request.sources[0], seed=request.seed, **request.parameters)
        except WorkFailed as problem:
            return Refused(code="provider_error", detail=problem.detail)
        except (Problem, ValueError) as error:
            return Refused(code="invalid_input", detail=str(error))
        return Answered(
            images=(MadeImage(data=picture, content_type="image/jpeg"),), model=MODEL, provenance=dict(PROVENANCE)
        )


def create(_environment: Mapping[str, str]) -> LocalProvider:
    """Return the provider: it is always there."""
    return LocalProvider()
