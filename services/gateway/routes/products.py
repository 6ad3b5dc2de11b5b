"""Routes of products: what an organization sells, and how each is seen from its sides."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from services.gateway import products
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.products import (
    SKU,
    ProductChangesRequest,
    ProductRequest,
    ProductSchema,
    ProductsQuery,
    ProductsSchema,
    PutProductRequest,
    RevisionSchema,
    RevisionsSchema,
    ViewRequest,
    ViewsQuery,
)
from shared.http import Alias, Answer, Request, route
from shared.http_conditions import require_match
from shared.http_schemas import error_at, refusal, shape_of
from shared.ids import new_id
from shared.off_hub import WorkFailed
from shared.problems import Conflict, Forbidden, NotFound, PreconditionFailed, SkuTaken

_TAGS = ("products",)
_PICTURE_SECONDS = 30.0
_REPEATED = (RequestInProgress, IdempotencyKeyReused)
_PICTURED = (Forbidden, NotFound, Conflict, WorkFailed)


def _product(service: Any, request: Request, product_id: str) -> dict[str, Any]:
    products.require_id(product_id)
    found: dict[str, Any] = service.catalog.product(**request.owner, product_id=product_id)
    return links_now(service).product(found)


class ProductRoutes(Wiring):
    """Products and their views."""

    @route(
        "POST",
        "/v1/products",
        aliases=(Alias("POST", "/api/products"),),
        auth=api_key,
        guard=idempotent(prefix="prd"),
        body=ProductRequest,
        time_limit_seconds=_PICTURE_SECONDS,
        answers={201: ProductSchema},
        problems=(*_PICTURED, *_REPEATED, SkuTaken),
        summary="Make a product",
        description="A SKU stands for one product of the organization, and stays with it; live keys and test keys each "
        "have products of their own. That of a deleted product is free again.",
        tags=_TAGS,
    )
    def create_product(self, request: Request) -> Answer:
        """Make a product, with its picture ready to be shown."""
        product_id = request.claim.resource_id
        picture = self._picture(request, revision_id=products.first_revision_id(product_id))
        made = self.catalog.create_product(
            **request.owner, **request.body, product_id=product_id, user_id=request.asker.user_id, picture=picture
        )
        return self._made(made)

    @route(
        "GET",
        "/v1/products",
        aliases=(Alias("GET", "/api/products"),),
        auth=api_key,
        query=ProductsQuery,
        answers={200: ProductsSchema},
        problems=(Forbidden,),
        summary="List products, newest first",
        tags=_TAGS,
    )
    def products(self, request: Request) -> Answer:
        """Return a page of products."""
        page = self.catalog.products(**request.owner, **request.query)
        links = links_now(self)
        return Answer(200, {**page, "data": [links.product(each) for each in page["data"]]})

    @route(
        "PUT",
        "/v1/products/by-sku/<sku>",
        auth=api_key,
        body=PutProductRequest,
        time_limit_seconds=_PICTURE_SECONDS,
        answers={200: ProductSchema, 201: ProductSchema},
        problems=_PICTURED,
        summary="Make the product with this SKU, or replace what is said of it",
        description="For keeping another system in step: send each product whole, as often as you like. What is the "
        "same as before changes nothing, not even the version, and no event tells of it.",
        tags=_TAGS,
    )
    def put_product(self, request: Request, sku: str) -> Answer:
        """Make or replace a product."""
        _require_sku(sku)
        picture = self._picture(request, revision_id=new_id("rev"))
        put = self.catalog.put_product(
            **request.owner,
            **request.body,
            product_id=new_id("prd"),
            sku=sku,
            user_id=request.asker.user_id,
            picture=picture,
        )
        return self._made(put["product"]) if put["created"] else Answer(200, links_now(self).product(put["product"]))

    @route(
        "GET",
        "/v1/products/<product_id>",
        auth=api_key,
        answers={200: ProductSchema},
        problems=(Forbidden,),
        summary="Look a product up",
        tags=_TAGS,
    )
    def product(self, request: Request, product_id: str) -> Answer:
        """Return one product."""
        return Answer(200, _product(self, request, product_id))

    @route(
        "PATCH",
        "/v1/products/<product_id>",
        aliases=(Alias("PATCH", "/api/products/<product_id>"),),
        auth=api_key,
        body=ProductChangesRequest,
        current=(ProductSchema, _product),
        answers={200: ProductSchema},
        problems=(Forbidden,),
        summary="Change a product; its SKU stays",
        tags=_TAGS,
    )
    def change_product(self, request: Request, product_id: str) -> Answer:
        """Change what is given."""
        products.require_id(product_id)
        try:
            changed = self.catalog.change_product(**self._change(request, product_id), changes=request.body)
        except PreconditionFailed:
            self._tell_current(request, product_id)
            raise
        return Answer(200, links_now(self).product(changed))

    @route(
        "DELETE",
        "/v1/products/<product_id>",
        aliases=(Alias("DELETE", "/api/products/<product_id>"),),
        auth=api_key,
        current=(ProductSchema, _product),
        answers={204: None},
        problems=(Forbidden,),
        summary="Delete a product",
        description="This will not delete generated images. The product's uploads are kept for 30 days more.",
        tags=_TAGS,
    )
    def delete_product(self, request: Request, product_id: str) -> Answer:
        """Delete one product."""
        products.require_id(product_id)
        try:
            self.catalog.delete_product(**self._change(request, product_id))
        except PreconditionFailed:
            self._tell_current(request, product_id)
            raise
        return Answer(204)

    @route(
        "POST",
        "/v1/products/<product_id>/views",
        auth=api_key,
        guard=idempotent(prefix="rev"),
        body=ViewRequest,
        time_limit_seconds=_PICTURE_SECONDS,
        answers={201: RevisionSchema},
        problems=(*_PICTURED, *_REPEATED),
        summary="Add a picture of a product: the next revision of one of its views",
        description="It becomes the current one. An upload that is deleted by itself (a `face`) is refused, and one "
        "that a product shows cannot be deleted.",
        tags=_TAGS,
    )
    def create_view(self, request: Request, product_id: str) -> Answer:
        """Add a revision."""
        products.require_id(product_id)
        self.catalog.product(**request.owner, product_id=product_id)  # before a picture is worked on for nothing
        picture = self._picture(request, revision_id=request.claim.resource_id, view_type=request.body["view_type"])
        added = self.catalog.add_view(
            **request.owner, product_id=product_id, user_id=request.asker.user_id, picture=picture
        )
        return Answer(201, links_now(self).image(added), {"Location": f"/v1/products/{product_id}/views"})

    @route(
        "GET",
        "/v1/products/<product_id>/views",
        auth=api_key,
        query=ViewsQuery,
        answers={200: RevisionsSchema},
        problems=(Forbidden,),
        summary="List the revisions of a product's views, newest first",
        tags=_TAGS,
    )
    def views(self, request: Request, product_id: str) -> Answer:
        """Return a page of revisions."""
        products.require_id(product_id)
        page = self.catalog.views(**request.owner, product_id=product_id, **request.query)
        links = links_now(self)
        return Answer(200, {**page, "data": [links.image(each) for each in page["data"]]})

    def _picture(self, request: Request, **revision: str) -> dict[str, Any] | None:
        upload_id = request.body.pop("upload_id", None)
        return products.picture(self, request, upload_id=upload_id, **revision) if upload_id else None

    def _made(self, made: Mapping[str, Any]) -> Answer:
        return Answer(201, links_now(self).product(made), {"Location": f"/v1/products/{made['id']}"})

    def _change(self, request: Request, product_id: str) -> dict[str, Any]:
        """Return what every change of a product says: whose, which, by whom, and in which versions it may be for it."""
        about = {"product_id": product_id, "user_id": request.asker.user_id}
        return {**request.owner, **about, "versions": products.seen_versions(request)}

    def _tell_current(self, request: Request, product_id: str) -> None:
        """Refuse with the product as it is now: it was changed between the look at it and the change."""
        require_match(request, _product(self, request, product_id), shape_of(ProductSchema))


def _require_sku(sku: str) -> None:
    try:
        SKU(sku)
    except ValidationError as error:
        raise refusal([error_at("/sku", "invalid", str(error.messages[0]))]) from error
