"""Routes of administrators: making organizations, and the proof that the ledger adds up."""

from services.gateway import invitations, keys, organizations
from services.gateway.authentication import admin_key
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.organizations import NewOrganization
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.organizations import InvariantsSchema, OrganizationRequest, OrganizationSchema
from shared.http import Answer, Request, route
from shared.problems import Forbidden

_TAGS = ("admin",)
_AUDIT_SECONDS = 30.0


class AdminRoutes(Wiring):
    """What only an administrator may do."""

    @route(
        "POST",
        "/v1/admin/organizations",
        auth=admin_key,
        guard=idempotent(prefix="org", keeps_answer=False),
        body=OrganizationRequest,
        answers={201: OrganizationSchema},
        problems=(Forbidden, RequestInProgress, IdempotencyKeyReused),
        summary="Make an organization with an owner and a first API key, shown once",
        description="With `owner_email` the owner is invited to sign up as a person. The link is sent by mail; only "
        "where the operator has set up no mail is it in this answer, to be passed on.",
        tags=_TAGS,
    )
    def create_organization(self, request: Request) -> Answer:
        """Make the organization, then open its account; what is sent again is answered alike."""
        asked, claim = request.body, request.claim
        secret = keys.of_request(
            signing_secret=self.settings.signing_secret, made_id=claim.resource_id, request_key=claim.key
        )
        wanted = NewOrganization(
            id=claim.resource_id,
            name=asked["name"],
            created_by=request.asker.name,
            plan=asked["plan"],
            owner_email=asked["owner_email"],
        )
        made = organizations.create(self.db, wanted, secret=secret)
        if made["invitation"]:
            made["invitation"] = invitations.as_answered(made["invitation"], settings=self.settings)
        amount = self.settings.opening_credits if asked["amount"] is None else asked["amount"]
        balance = self.credits.open_account(org_id=made["id"], plan=asked["plan"], amount=amount)
        headers = {"Cache-Control": "no-store"}
        return Answer(201, {**made, "plan": asked["plan"], "api_key": secret.text, "balance": balance}, headers)

    @route(
        "GET",
        "/v1/admin/invariants",
        auth=admin_key,
        answers={200: InvariantsSchema},
        problems=(Forbidden,),
        time_limit_seconds=_AUDIT_SECONDS,
        summary="Recompute the whole ledger and list what does not add up",
        tags=_TAGS,
    )
    def invariants(self, _request: Request) -> Answer:
        """Ask credits for its audit."""
        return Answer(200, self.credits.invariants())
