"""Routes of images: the stored results."""

from typing import Any

from services.gateway import comparisons
from services.gateway.authentication import api_key
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.images import ComparisonSchema, ImageSchema, ImagesQuery, ImagesSchema
from shared.http import Alias, Answer, Request, route
from shared.ids import is_id
from shared.problems import ConsentRequired, Forbidden, NotFound, SourceGone

_TAGS = ("images",)


class ImageRoutes(Wiring):
    """Results of jobs."""

    @route(
        "GET",
        "/v1/images",
        aliases=(Alias("GET", "/api/generated-images", ignored={"clientId": "the credential says whose they are"}),),
        auth=api_key,
        query=ImagesQuery,
        answers={200: ImagesSchema},
        problems=(Forbidden,),
        summary="List images, newest first",
        tags=_TAGS,
    )
    def images(self, request: Request) -> Answer:
        """Return a page of images."""
        times = {name: request.query[name] for name in ("created_since", "created_before")}
        told = {name: moment and moment.isoformat() for name, moment in times.items()}
        page = self.generation.images(**request.owner, **{**request.query, **told})
        return Answer(200, {**page, "data": [links_now(self).image(image) for image in page["data"]]})

    @route(
        "GET",
        "/v1/images/<image_id>",
        auth=api_key,
        answers={200: ImageSchema},
        problems=(Forbidden,),
        summary="Look an image up",
        tags=_TAGS,
    )
    def image(self, request: Request, image_id: str) -> Answer:
        """Return one image."""
        _require_image_id(image_id)
        found = self.generation.image(**request.owner, image_id=image_id)
        return Answer(200, links_now(self).image(found))

    @route(
        "PUT",
        "/v1/images/<image_id>/favorite",
        auth=api_key,
        answers={200: ImageSchema},
        problems=(Forbidden,),
        summary="Mark an image as a favorite",
        tags=_TAGS,
    )
    def mark_image(self, request: Request, image_id: str) -> Answer:
        """Mark one image."""
        return _marked(self, request, image_id, favorite=True)

    @route(
        "DELETE",
        "/v1/images/<image_id>/favorite",
        auth=api_key,
        answers={200: ImageSchema},
        problems=(Forbidden,),
        summary="Take the mark of a favorite off an image",
        tags=_TAGS,
    )
    def unmark_image(self, request: Request, image_id: str) -> Answer:
        """Unmark one image."""
        return _marked(self, request, image_id, favorite=False)

    @route(
        "GET",
        "/v1/images/<image_id>/comparison",
        auth=api_key,
        answers={200: ComparisonSchema},
        problems=(Forbidden, SourceGone, ConsentRequired),
        summary="An image beside the upload it was made of",
        description="410 where the upload is deleted. A face is shown only with the consent that `keep_original` is.",
        tags=_TAGS,
    )
    def image_comparison(self, request: Request, image_id: str) -> Answer:
        """Return both."""
        _require_image_id(image_id)
        return Answer(200, comparisons.comparison(self, request, links_now(self), image_id=image_id))

    @route(
        "GET",
        "/v1/images/<image_id>/content",
        auth=api_key,
        answers={303: None},
        problems=(Forbidden,),
        summary="Fetch an image: leads to its signed address",
        tags=_TAGS,
    )
    def image_content(self, request: Request, image_id: str) -> Answer:
        """Lead to the image's bytes."""
        _require_image_id(image_id)
        found = self.generation.image(**request.owner, image_id=image_id)
        return Answer(303, None, {"Location": links_now(self).to(found["key"]), "Cache-Control": "no-store"})


def _marked(service: Any, request: Request, image_id: str, *, favorite: bool) -> Answer:
    _require_image_id(image_id)
    marked = service.generation.mark_image(
        **request.owner, image_id=image_id, user_id=request.asker.user_id, favorite=favorite
    )
    return Answer(200, links_now(service).image(marked))


def _require_image_id(image_id: str) -> None:
    if not is_id(image_id, prefix="img"):
        raise NotFound("There is no such image.")
