"""Routes of administrators' own keys, for the root key alone."""

from services.gateway import admin_keys, keys
from services.gateway.admin_keys import NameTaken
from services.gateway.authentication import admin_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.api_keys import AdminKeyRequest, AdminKeysSchema, NewAdminKeySchema
from services.gateway.schemas.pages import PageQuery
from shared.http import Answer, Request, route
from shared.ids import is_id
from shared.problems import Forbidden, NotFound

_TAGS = ("admin",)


class AdminKeyRoutes(Wiring):
    """Who administers."""

    @route(
        "POST",
        "/v1/admin/keys",
        auth=admin_key,
        guard=idempotent(prefix="adk", keeps_answer=False),
        body=AdminKeyRequest,
        answers={201: NewAdminKeySchema},
        problems=(Forbidden, NameTaken, RequestInProgress, IdempotencyKeyReused),
        summary="Make a key for one administrator; its secret is shown this once",
        description="With the root key only. What is done with the new key is recorded under its name.",
        tags=_TAGS,
    )
    def create_admin_key(self, request: Request) -> Answer:
        """Make a named key; what is sent again is answered alike."""
        admin_keys.require_root(request.asker)
        secret = keys.of_request(
            signing_secret=self.settings.signing_secret,
            made_id=request.claim.resource_id,
            request_key=request.claim.key,
            kind=keys.ADMIN,
        )
        made = admin_keys.create(self.db, key_id=request.claim.resource_id, name=request.body["name"], secret=secret)
        return Answer(201, {**made, "secret": secret.text}, {"Cache-Control": "no-store"})

    @route(
        "GET",
        "/v1/admin/keys",
        auth=admin_key,
        query=PageQuery,
        answers={200: AdminKeysSchema},
        problems=(Forbidden,),
        summary="List administrators' keys, newest first, without their secrets",
        tags=_TAGS,
    )
    def admin_keys(self, request: Request) -> Answer:
        """Return a page of keys."""
        admin_keys.require_root(request.asker)
        return Answer(200, admin_keys.page(self.db, **request.query))

    @route(
        "DELETE",
        "/v1/admin/keys/<key_id>",
        auth=admin_key,
        answers={204: None},
        problems=(Forbidden,),
        summary="Revoke an administrator's key",
        tags=_TAGS,
    )
    def delete_admin_key(self, request: Request, key_id: str) -> Answer:
        """Revoke it; doing so again changes nothing."""
        admin_keys.require_root(request.asker)
        if not is_id(key_id, prefix="adk"):
            raise NotFound("There is no such key.")
        admin_keys.revoke(self.db, key_id=key_id)
        return Answer(204)
