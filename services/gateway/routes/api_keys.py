"""Routes of API keys: made, listed, replaced and revoked by owners."""

from datetime import timedelta

from services.gateway import api_keys, keys
from services.gateway.api_keys import KeyNotUsable, NewKey
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.members import LastOwner
from services.gateway.permissions import MANAGE
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.api_keys import (
    ApiKeyRequest,
    ApiKeysQuery,
    ApiKeysSchema,
    NewApiKeySchema,
    RotationRequest,
)
from shared.http import Answer, Request, route
from shared.ids import is_id
from shared.problems import Forbidden, NotFound

_TAGS = ("keys",)
_ONCE = {"Cache-Control": "no-store"}


class ApiKeyRoutes(Wiring):
    """Keys for programs."""

    @route(
        "POST",
        "/v1/api-keys",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="key", keeps_answer=False),
        body=ApiKeyRequest,
        answers={201: NewApiKeySchema},
        problems=(Forbidden, RequestInProgress, IdempotencyKeyReused),
        summary="Make an API key; its secret is shown this once",
        description="What a test key (`livemode: false`) asks for is done on our own machines, one thing at a time, "
        "and costs nothing. It sees only what test keys have made, and nobody else sees that.",
        tags=_TAGS,
    )
    def create_api_key(self, request: Request) -> Answer:
        """Make a key that stands for the asker; what is sent again is answered alike."""
        secret = keys.of_request(
            signing_secret=self.settings.signing_secret,
            made_id=request.claim.resource_id,
            request_key=request.claim.key,
            kind=keys.LIVE if request.body["livemode"] else keys.TEST,
        )
        wanted = NewKey(id=request.claim.resource_id, **request.body)
        made = api_keys.create(self.db, wanted, request.asker, secret=secret)
        return Answer(201, {**made, "secret": secret.text}, _ONCE)

    @route(
        "GET",
        "/v1/api-keys",
        auth=api_key,
        needs=MANAGE,
        query=ApiKeysQuery,
        answers={200: ApiKeysSchema},
        problems=(Forbidden,),
        summary="List API keys, newest first, without their secrets",
        tags=_TAGS,
    )
    def api_keys(self, request: Request) -> Answer:
        """Return a page of keys."""
        return Answer(200, api_keys.page(self.db, org_id=request.org_id, **request.query))

    @route(
        "DELETE",
        "/v1/api-keys/<key_id>",
        auth=api_key,
        needs=MANAGE,
        answers={204: None},
        problems=(Forbidden, LastOwner),
        summary="Revoke an API key; it is refused everywhere within 5 s",
        tags=_TAGS,
    )
    def delete_api_key(self, request: Request, key_id: str) -> Answer:
        """Revoke it; doing so again changes nothing."""
        _require_key_id(key_id)
        api_keys.revoke(self.db, org_id=request.org_id, key_id=key_id)
        self.known_keys.forget()
        return Answer(204)

    @route(
        "POST",
        "/v1/api-keys/<key_id>/rotate",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="key", keeps_answer=False),
        body=RotationRequest,
        answers={201: NewApiKeySchema},
        problems=(Forbidden, KeyNotUsable, RequestInProgress, IdempotencyKeyReused),
        summary="Replace an API key; the old one goes on for a while beside the new one",
        tags=_TAGS,
    )
    def rotate_api_key(self, request: Request, key_id: str) -> Answer:
        """Make a key in place of another."""
        _require_key_id(key_id)
        secret = keys.of_request(
            signing_secret=self.settings.signing_secret,
            made_id=request.claim.resource_id,
            request_key=request.claim.key,
            kind=api_keys.kind_of(self.db, org_id=request.org_id, key_id=key_id),
        )
        made = api_keys.rotate(
            self.db,
            request.asker,
            key_id=key_id,
            new_id=request.claim.resource_id,
            overlap=timedelta(seconds=request.body["overlap_seconds"]),
            secret=secret,
        )
        self.known_keys.forget()
        return Answer(201, {**made, "secret": secret.text}, _ONCE)


def _require_key_id(key_id: str) -> None:
    if not is_id(key_id, prefix="key"):
        raise NotFound("There is no such key.")
