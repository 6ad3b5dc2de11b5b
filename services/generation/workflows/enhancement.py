"""Enhancement: the same photo, with the light, colours and sharpness a photographer would have given it."""

from services.generation import one_photo

NAME = "enhancement"
TITLE = "Enhancement"
Inputs = one_photo.OnePhoto
ASSETS = one_photo.ASSETS
EXAMPLE = one_photo.EXAMPLE
ESTIMATED_SECONDS = 45

SKU = "staging.edit"
PROMPT_VERSION = "enhancement-1"
PROMPT = (
    "The same photograph, professionally enhanced: balanced exposure, straight white balance, natural colours, clear"
    " shadows, controlled highlights, fine sharpness, little noise. Change nothing that is in the picture: no object is"
    " added, moved or removed. No text."
)

plan = one_photo.one_picture(
    "image.edit", sku=SKU, prompt=PROMPT, prompt_version=PROMPT_VERSION, parameters={"edit": NAME}
)
