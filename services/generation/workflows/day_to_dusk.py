"""Day to dusk: a photo taken by day, as it would look shortly after sunset."""

from services.generation import one_photo

NAME = "day_to_dusk"
TITLE = "Day to dusk"
Inputs = one_photo.OnePhoto
ASSETS = one_photo.ASSETS
EXAMPLE = one_photo.EXAMPLE
ESTIMATED_SECONDS = 45

SKU = "staging.edit"
PROMPT_VERSION = "day-to-dusk-1"
PROMPT = (
    "The same photograph taken at dusk, shortly after sunset: deep blue sky with a warm horizon, windows and lamps lit"
    " warmly from inside, soft ambient light, realistic shadows. Keep building, room, furniture, plants and camera"
    " position exactly as they are. No people, no text."
)

plan = one_photo.one_picture(
    "image.edit", sku=SKU, prompt=PROMPT, prompt_version=PROMPT_VERSION, parameters={"edit": NAME}
)
