"""Routes of images: the stored results."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from services.gateway import comparisons, labels
from services.gateway.authentication import api_key
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.images import (
    ComparisonSchema,
    ContentQuery,
    ImageSchema,
    ImagesQuery,
    ImagesSchema,
    LineageSchema,
)
from shared.http import Alias, Answer, Request, route
from shared.http_conditions import with_tag
from shared.ids import is_id
from shared.off_hub import WorkFailed
from shared.problems import ConsentRequired, Forbidden, NotFound, SourceGone

_TAGS = ("images",)
# A line before the image workers, and up to 50 million pixels.
_LABEL_SECONDS = 30.0


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
        query=ContentQuery,
        time_limit_seconds=_LABEL_SECONDS,
        answers={200: "image/jpeg", 303: None, 304: None},
        problems=(Forbidden, WorkFailed),
        summary="Fetch an image: leads to its signed address",
        description="With `label` the answer is a JPEG of the image with that written on it, in place of the address. "
        "It has an ETag: with that in If-None-Match the answer is 304.",
        tags=_TAGS,
    )
    def image_content(self, request: Request, image_id: str) -> Answer:
        """Lead to the image's bytes, or write a label on a copy of them."""
        _require_image_id(image_id)
        found = self.generation.image(**request.owner, image_id=image_id)
        if label := request.query["label"]:
            return _labelled(self, request, found, label)
        return Answer(303, None, {"Location": links_now(self).to(found["key"]), "Cache-Control": "no-store"})

    @route(
        "GET",
        "/v1/images/<image_id>/provenance",
        auth=api_key,
        answers={200: LineageSchema},
        problems=(Forbidden,),
        summary="Where an image comes from, back to the uploads",
        description="The file says the same of itself, in its XMP packet: IPTC's DigitalSourceType, the system, and "
        "what it was made of.",
        tags=_TAGS,
    )
    def image_provenance(self, request: Request, image_id: str) -> Answer:
        """Return what an image was made of, and what that was made of."""
        _require_image_id(image_id)
        return Answer(200, self.generation.image_provenance(**request.owner, image_id=image_id))


def _labelled(service: Any, request: Request, image: Mapping[str, Any], label: str) -> Answer:
    """Return a labelled copy; who has it already is told so before any work is done."""
    headers = {"Content-Type": "image/jpeg", "Cache-Control": "private, max-age=3600"}
    answer = with_tag(request, Answer(200, None, headers), f'"{image["sha256"]}-{label}"')
    if answer.status != HTTPStatus.OK:
        return answer
    copy = labels.copy_of(service.store, service.image_line, image["key"], org_id=request.org_id, label=label)
    return Answer(200, copy, answer.headers)


def _marked(service: Any, request: Request, image_id: str, *, favorite: bool) -> Answer:
    _require_image_id(image_id)
    marked = service.generation.mark_image(
        **request.owner, image_id=image_id, user_id=request.asker.user_id, favorite=favorite
    )
    return Answer(200, links_now(service).image(marked))


def _require_image_id(image_id: str) -> None:
    if not is_id(image_id, prefix="img"):
        raise NotFound("There is no such image.")
