"""Routes of administrators that switch features for one organization."""

from services.gateway import flags
from services.gateway.authentication import admin_key
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.flags import FlagRequest, FlagsSchema
from shared.http import Answer, Request, route

_TAGS = ("admin",)


class FlagRoutes(Wiring):
    """What an organization has of what can be switched."""

    @route(
        "GET",
        "/v1/admin/organizations/<org_id>/flags",
        auth=admin_key,
        answers={200: FlagsSchema},
        summary="Which features are on for an organization",
        tags=_TAGS,
    )
    def flags(self, _request: Request, org_id: str) -> Answer:
        """List every flag."""
        return Answer(200, {"data": flags.flags_of(self.db, org_id=org_id)})

    @route(
        "PUT",
        "/v1/admin/organizations/<org_id>/flags",
        auth=admin_key,
        body=FlagRequest,
        answers={200: FlagsSchema},
        summary="Switch a feature for an organization; where it is off, its routes answer 404",
        tags=_TAGS,
    )
    def switch_flag(self, request: Request, org_id: str) -> Answer:
        """Switch one flag, and list all."""
        flags.switch(self.db, org_id=org_id, actor=request.asker.name, **request.body)
        return Answer(200, {"data": flags.flags_of(self.db, org_id=org_id)})
