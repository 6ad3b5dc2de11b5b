"""Routes of technical packs: each part is a job of its workflow; one request has all there is of a pack."""

from collections.abc import Mapping
from typing import Any

from services.gateway import jobs, products, tech_pack_files, workflows
from services.gateway.authentication import api_key
from services.gateway.routes.paid_steps import paid_step
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.tech_packs import (
    BaseViewsRequest,
    CategoryRequest,
    CloseUpsRequest,
    EditRequest,
    PartRegenerationRequest,
    RegenerationRequest,
    SketchesRequest,
    TechPackSchema,
)
from shared.http import Alias, Answer, Request, route
from shared.ids import is_id
from shared.off_hub import WorkFailed
from shared.problems import BadRequest, Forbidden, NotFound

_TAGS = ("tech packs",)
_PDF_SECONDS = 30.0
# Where the first technical packs were, and what their bodies said: the ids stood there.
_BEFORE = "/api/tech-pack-v2"
_OF_PRODUCT = {"productId": "product_id"}
_OF_VIEW = {"revisionId": "revision_id"}
_IS_KEPT = "what was analysed is kept, and taken from there"


def _pack(service: Any, request: Request, product_id: str) -> dict[str, Any]:
    """Return what there is of a pack, with keys in place of addresses."""
    products.require_id(product_id)
    product: Mapping[str, Any] = service.catalog.product(**request.owner, product_id=product_id)
    views = [dict(view) for view in product["views"]]
    pack = service.generation.tech_pack(**request.owner, product_id=product_id, views=views)
    return {**pack, "product": product}


class TechPackRoutes(Wiring):
    """All a factory must know of a product, from photos of it."""

    @route(
        "GET",
        "/v1/tech-packs/<product_id>",
        auth=api_key,
        answers={200: TechPackSchema},
        problems=(Forbidden,),
        summary="Put a technical pack together: analysed views, close-ups, sketches, edits, and what comes next",
        tags=_TAGS,
    )
    def tech_pack(self, request: Request, product_id: str) -> Answer:
        """Return the pack."""
        pack = links_now(self).tech_pack(_pack(self, request, product_id))
        return Answer(200, pack, {"Retry-After": str(jobs.POLL_SECONDS)} if pack["at_work"] else {})

    @route(
        "GET",
        "/v1/tech-packs/<product_id>/export.pdf",
        auth=api_key,
        time_limit_seconds=_PDF_SECONDS,
        answers={200: "application/pdf"},
        problems=(Forbidden, NotFound, WorkFailed),
        summary="Take a technical pack away as a PDF: cover, views, materials, close-ups, sketches with callouts",
        tags=_TAGS,
    )
    def export_tech_pack(self, request: Request, product_id: str) -> Answer:
        """Return the pack as it is, drawn in pages."""
        pack = _pack(self, request, product_id)
        data = tech_pack_files.drawn(self.store, self.image_line, pack, org_id=request.org_id)
        name = f'attachment; filename="tech-pack-{product_id}.pdf"'
        return Answer(200, data, {"Content-Type": "application/pdf", "Content-Disposition": name})

    @paid_step(
        "/v1/tech-packs/<product_id>/category",
        aliases=(Alias("POST", f"{_BEFORE}/category/detect", renamed=_OF_PRODUCT),),
        body=CategoryRequest,
        summary="Have a product's category detected: free, and nothing else needs it",
        tags=_TAGS,
    )
    def detect_category(self, request: Request, product_id: str) -> Answer:
        """Hand the job over."""
        return self._part(request, product_id, "tech_pack_category")

    @paid_step(
        "/v1/tech-packs/<product_id>/base-views",
        aliases=(
            Alias("POST", f"{_BEFORE}/base-views/analyze", renamed={**_OF_PRODUCT, "revisionIds": "revision_ids"}),
        ),
        body=BaseViewsRequest,
        summary="Have up to five views of a product analysed",
        description="A view whose picture was analysed before is known, and makes it cheaper; if all are known it is "
        "free, and a 200 with the ended job.",
        tags=_TAGS,
    )
    def analyze_base_views(self, request: Request, product_id: str) -> Answer:
        """Hand the job over."""
        return self._part(request, product_id, "tech_pack_base_views", "revision_ids", "category")

    @paid_step(
        "/v1/tech-packs/<product_id>/close-ups",
        aliases=(
            Alias(
                "POST",
                f"{_BEFORE}/close-ups/generate",
                renamed=_OF_PRODUCT,
                ignored={"baseViewAnalyses": _IS_KEPT},
            ),
        ),
        body=CloseUpsRequest,
        summary="Have close-ups of a product planned, photographed and analysed: a new set",
        tags=_TAGS,
    )
    def generate_close_ups(self, request: Request, product_id: str) -> Answer:
        """Hand the job over."""
        return self._part(request, product_id, "tech_pack_close_ups", "category", "count")

    @paid_step(
        "/v1/tech-packs/<product_id>/sketches",
        aliases=(
            Alias(
                "POST",
                f"{_BEFORE}/sketches/generate",
                renamed=_OF_PRODUCT,
                ignored={"productAnalysis": _IS_KEPT},
            ),
        ),
        body=SketchesRequest,
        summary="Have a product drawn from front, back and side, with callouts and measurements: a new set",
        tags=_TAGS,
    )
    def generate_sketches(self, request: Request, product_id: str) -> Answer:
        """Hand the job over."""
        return self._part(request, product_id, "tech_pack_sketches", "category")

    @paid_step(
        "/v1/tech-packs/<product_id>/regenerations",
        body=PartRegenerationRequest,
        summary="Have one close-up or sketch made again; the others of its set stay",
        tags=_TAGS,
    )
    def regenerate_part(self, request: Request, product_id: str) -> Answer:
        """Hand the job over."""
        return self._part(request, product_id, "tech_pack_regenerate", "image_id", "prompt")

    @paid_step(
        "/v1/revisions/<revision_id>/edits",
        aliases=(
            Alias(
                "POST",
                f"{_BEFORE}/edit",
                renamed={**_OF_VIEW, "fieldPath": "field_path", "editPrompt": "prompt"},
            ),
        ),
        body=EditRequest,
        summary="Have one field of a view's analysis edited; nothing else of it changes",
        description="What the field said before is kept: `edits` of the technical pack.",
        tags=_TAGS,
    )
    def edit_field(self, request: Request, revision_id: str) -> Answer:
        """Hand the job over."""
        return self._revised(request, revision_id, "tech_pack_edit", "field_path", "prompt")

    @paid_step(
        "/v1/revisions/<revision_id>/regenerations",
        aliases=(Alias("POST", f"{_BEFORE}/regenerate", renamed={**_OF_VIEW, "regeneratePrompt": "prompt"}),),
        body=RegenerationRequest,
        summary="Have a view made again: the product's next revision of it, analysed anew",
        tags=_TAGS,
    )
    def regenerate_view(self, request: Request, revision_id: str) -> Answer:
        """Hand the job over."""
        return self._revised(request, revision_id, "tech_pack_regenerate", "prompt")

    def _part(self, request: Request, product_id: str, workflow: str, *names: str) -> Answer:
        products.require_id(product_id)
        return self._job(request, workflow, {"product_id": product_id}, names)

    def _revised(self, request: Request, revision_id: str, workflow: str, *names: str) -> Answer:
        if not is_id(revision_id, prefix="rev"):
            raise NotFound("There is no such view.")
        return self._job(request, workflow, {"revision_id": revision_id}, names)

    def _job(self, request: Request, workflow: str, subject: Mapping[str, str], names: tuple[str, ...]) -> Answer:
        """Hand a job over whose inputs are its subject and what the body says beside its terms."""
        inputs = {**subject, **{name: request.body[name] for name in names if name in request.body}}
        workflows.check(workflows.contract(workflow), inputs, at="")
        try:
            return jobs.accept(self, request, links_now(self), workflow=workflow, inputs=inputs)
        except BadRequest as problem:  # generation knows a job's inputs, which are this body
            for error in problem.extra.get("errors", ()):
                error["pointer"] = error["pointer"].removeprefix("/inputs")
            raise
