"""Routes of members: who they are, which roles they have, and how they leave."""

from services.gateway import members
from services.gateway.authentication import api_key
from services.gateway.members import LastOwner
from services.gateway.permissions import MANAGE
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.pages import PageQuery
from services.gateway.schemas.people import MemberRequest, MemberSchema, MembersSchema
from shared.http import Answer, Request, route
from shared.ids import is_id
from shared.problems import Forbidden, NotFound

_TAGS = ("people",)


class MemberRoutes(Wiring):
    """The people of an organization."""

    @route(
        "GET",
        "/v1/members",
        auth=api_key,
        query=PageQuery,
        answers={200: MembersSchema},
        problems=(Forbidden,),
        summary="List members and who is invited, oldest first",
        tags=_TAGS,
    )
    def members(self, request: Request) -> Answer:
        """Return a page of members."""
        return Answer(200, members.page(self.db, org_id=request.org_id, **request.query))

    @route(
        "PATCH",
        "/v1/members/<user_id>",
        auth=api_key,
        needs=MANAGE,
        body=MemberRequest,
        answers={200: MemberSchema},
        problems=(Forbidden, LastOwner),
        summary="Give a member another role",
        tags=_TAGS,
    )
    def change_member(self, request: Request, user_id: str) -> Answer:
        """Change the role; keys of the member follow within 5 s everywhere."""
        _require_user_id(user_id)
        asker = request.asker
        changed = members.change_role(
            self.db,
            org_id=request.org_id,
            user_id=user_id,
            role=request.body["role"],
            changed_by=asker.user_id or asker.id,
        )
        self.known_keys.forget()
        return Answer(200, changed)

    @route(
        "DELETE",
        "/v1/members/<user_id>",
        auth=api_key,
        needs=MANAGE,
        answers={204: None},
        problems=(Forbidden, LastOwner),
        summary="Remove a member; ends their sessions and keys",
        tags=_TAGS,
    )
    def delete_member(self, request: Request, user_id: str) -> Answer:
        """Remove somebody."""
        _require_user_id(user_id)
        asker = request.asker
        members.remove(self.db, org_id=request.org_id, user_id=user_id, removed_by=asker.user_id or asker.id)
        self.known_keys.forget()
        return Answer(204)


def _require_user_id(user_id: str) -> None:
    if not is_id(user_id, prefix="usr"):
        raise NotFound("There is no such member.")
