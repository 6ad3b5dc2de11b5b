"""Empty rooms: a furnished or cluttered room, shown with its walls, windows and floor alone."""

from services.generation import one_photo

NAME = "empty_room"
TITLE = "Empty room"
Inputs = one_photo.OnePhoto
ASSETS = one_photo.ASSETS
EXAMPLE = one_photo.EXAMPLE
ESTIMATED_SECONDS = 45

SKU = "staging.empty_room"
PROMPT_VERSION = "empty-room-1"
PROMPT = (
    "Photograph of the same room, completely empty: remove all furniture, rugs, curtains, pictures, lamps that stand or"
    " hang, and clutter. Keep walls, ceiling, windows, doors, floor and built-in fixtures, the camera position and the"
    " light as they are; continue floor and walls plausibly where something stood. No people, no text."
)

plan = one_photo.one_picture("image.empty_room", sku=SKU, prompt=PROMPT, prompt_version=PROMPT_VERSION)
