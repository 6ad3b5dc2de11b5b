"""Routes of invitations: asking people in, and what somebody sees who was asked."""

from services.gateway import invitations
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.invitation_problems import (
    AccountExists,
    AlreadyMember,
    InvitationExpired,
    InvitationInvalid,
    InvitationRevoked,
    InvitationUsed,
)
from services.gateway.invitations import Wanted
from services.gateway.members import LastOwner
from services.gateway.permissions import MANAGE
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.pages import PageQuery
from services.gateway.schemas.people import (
    InvitationRequest,
    InvitationsSchema,
    InvitedSchema,
    SentInvitationSchema,
    TokenRequest,
)
from shared.http import Answer, Request, route
from shared.http_fields import rfc3339
from shared.ids import is_id
from shared.problems import Forbidden, NotFound

_TAGS = ("people",)
NOT_OPEN = (InvitationInvalid, InvitationExpired, InvitationRevoked, InvitationUsed)
NOT_TO_ACCEPT = (*NOT_OPEN, AccountExists)


class InvitationRoutes(Wiring):
    """How people come in."""

    @route(
        "POST",
        "/v1/invitations",
        auth=api_key,
        needs=MANAGE,
        guard=idempotent(prefix="inv", keeps_answer=False),
        body=InvitationRequest,
        answers={201: SentInvitationSchema},
        problems=(Forbidden, AlreadyMember, LastOwner, RequestInProgress, IdempotencyKeyReused),
        summary="Invite somebody into the organization",
        description="The link is good for 7 days, once. An earlier invitation of the same person ends. It is sent by "
        "mail; only where the operator has set up no mail is it in this answer, to be passed on.",
        tags=_TAGS,
    )
    def create_invitation(self, request: Request) -> Answer:
        """Invite; the link is in the mail, or where none is sent, in this answer and nowhere else."""
        wanted = Wanted(id=request.claim.resource_id, org_id=request.org_id, **request.body)
        made = invitations.invite(self.db, wanted, asker=request.asker)
        return Answer(201, invitations.as_answered(made, settings=self.settings), {"Cache-Control": "no-store"})

    @route(
        "GET",
        "/v1/invitations",
        auth=api_key,
        needs=MANAGE,
        query=PageQuery,
        answers={200: InvitationsSchema},
        problems=(Forbidden,),
        summary="List invitations, newest first",
        tags=_TAGS,
    )
    def invitations(self, request: Request) -> Answer:
        """Return a page of invitations, without their links."""
        return Answer(200, invitations.page(self.db, org_id=request.org_id, **request.query))

    @route(
        "DELETE",
        "/v1/invitations/<invitation_id>",
        auth=api_key,
        needs=MANAGE,
        answers={204: None},
        problems=(Forbidden, InvitationUsed),
        summary="Take an invitation back",
        tags=_TAGS,
    )
    def delete_invitation(self, request: Request, invitation_id: str) -> Answer:
        """Take it back; doing so again changes nothing."""
        if not is_id(invitation_id, prefix="inv"):
            raise NotFound("There is no such invitation.")
        invitations.revoke(self.db, org_id=request.org_id, invitation_id=invitation_id)
        return Answer(204)

    @route(
        "POST",
        "/v1/invitations/lookup",
        auth=None,
        body=TokenRequest,
        answers={200: InvitedSchema},
        problems=NOT_OPEN,
        summary="See what an invitation is for, before signing up with it",
        tags=_TAGS,
    )
    def lookup_invitation(self, request: Request) -> Answer:
        """Return what the sign-up form begins with."""
        subject = invitations.subject_of(request.body["token"], secret=self.settings.signing_secret)
        with self.db.transaction() as session:
            found, organization_name = invitations.looked_up(
                session, invitation_id=subject, public_url=self.settings.public_url
            )
            shown = {
                "email": found.email,
                "role": found.role,
                "organization_name": organization_name,
                "inviter_name": found.inviter_name,
                "expires_at": rfc3339(found.expires_at),
            }
        return Answer(200, shown, {"Cache-Control": "no-store"})
