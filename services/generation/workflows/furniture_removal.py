"""Furniture removal: what stands about in a room is taken away, what belongs to the room stays."""

from services.generation import one_photo

NAME = "furniture_removal"
TITLE = "Furniture removal"
Inputs = one_photo.OnePhoto
ASSETS = one_photo.ASSETS
EXAMPLE = one_photo.EXAMPLE
ESTIMATED_SECONDS = 45

SKU = "staging.edit"
PROMPT_VERSION = "furniture-removal-1"
PROMPT = (
    "The same photograph with all movable furniture and decoration removed. Keep the room itself exactly as it is:"
    " walls, paint, windows, doors, floor, built-in kitchens and fixtures, camera position, light. Fill in"
    " floor and walls plausibly where something stood. Add nothing. No people, no text."
)

plan = one_photo.one_picture(
    "image.edit", sku=SKU, prompt=PROMPT, prompt_version=PROMPT_VERSION, parameters={"edit": NAME}
)
