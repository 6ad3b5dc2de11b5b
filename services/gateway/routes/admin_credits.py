"""Routes of administrators that move credits: grants, adjustments, refunds, plans. Each names who did it."""

from services.gateway.authentication import admin_key
from services.gateway.idempotency import IdempotencyKeyRequired, IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.routes.jobs import require_job_id
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.credits import (
    AdjustmentRequest,
    AdjustmentSchema,
    CreditsSchema,
    GrantRequest,
    GrantSchema,
    PlanRequest,
    RefundRequest,
    RefundSchema,
)
from shared.http import Alias, Answer, Request, route
from shared.http_fields import rfc3339
from shared.ids import is_id
from shared.problems import Conflict, Forbidden, NotFound

_TAGS = ("admin",)
_MONEY_PROBLEMS = (Forbidden, IdempotencyKeyRequired, IdempotencyKeyReused, RequestInProgress, Conflict)


class AdminCreditRoutes(Wiring):
    """What an administrator may do to an organization's credits."""

    @route(
        "POST",
        "/v1/admin/organizations/<org_id>/grants",
        auth=admin_key,
        guard=idempotent(prefix="grt", required=True),
        money=True,
        body=GrantRequest,
        answers={201: GrantSchema},
        problems=_MONEY_PROBLEMS,
        summary="Give an organization credits",
        tags=_TAGS,
    )
    def create_grant(self, request: Request, org_id: str) -> Answer:
        """Give credits, once per claim."""
        _require_organization_id(org_id)
        expires_at = request.body["expires_at"]
        asked = {**request.body, "expires_at": rfc3339(expires_at) if expires_at else None}
        grant_id = request.claim.resource_id
        wallet = self.credits.grant(grant_id=grant_id, org_id=org_id, actor=_actor(request), **asked)
        return Answer(201, {**asked, "id": grant_id, "org_id": org_id, "balance": wallet})

    @route(
        "POST",
        "/v1/admin/organizations/<org_id>/adjustments",
        auth=admin_key,
        guard=idempotent(prefix="adj", required=True),
        money=True,
        body=AdjustmentRequest,
        answers={201: AdjustmentSchema},
        problems=_MONEY_PROBLEMS,
        summary="Correct what an organization has",
        tags=_TAGS,
    )
    def create_adjustment(self, request: Request, org_id: str) -> Answer:
        """Add or take away, once per claim."""
        _require_organization_id(org_id)
        made = {"adjustment_id": request.claim.resource_id, "org_id": org_id, "actor": _actor(request)}
        wallet = self.credits.adjust(**made, **request.body)
        return Answer(201, {**request.body, "id": made["adjustment_id"], "org_id": org_id, "balance": wallet})

    @route(
        "POST",
        "/v1/admin/jobs/<job_id>/refund",
        aliases=(Alias("POST", "/api/admin/headshots/<job_id>/refund"),),
        auth=admin_key,
        guard=idempotent(prefix="rfd", required=True),
        money=True,
        body=RefundRequest,
        answers={200: RefundSchema},
        problems=_MONEY_PROBLEMS,
        summary="Give back what a job, or one generation of it, was charged",
        description="At most what was charged, and that once: asking again answers with what was given back. "
        "The reason is shown to the organization, in its history and in RefundIssued. "
        "Lines that are still held are not touched: they settle when the job ends; ask again then.",
        tags=_TAGS,
    )
    def refund_job(self, request: Request, job_id: str) -> Answer:
        """Give charged credits back."""
        require_job_id(job_id)
        return Answer(200, self.credits.refund(job_id=job_id, actor=_actor(request), **request.body))

    @route(
        "PUT",
        "/v1/admin/organizations/<org_id>/plan",
        auth=admin_key,
        body=PlanRequest,
        answers={200: CreditsSchema},
        problems=(Forbidden,),
        summary="Put an organization on another plan",
        tags=_TAGS,
    )
    def change_plan_of(self, request: Request, org_id: str) -> Answer:
        """Change the plan."""
        _require_organization_id(org_id)
        plan = request.body["plan"]
        return Answer(200, self.credits.change_plan(org_id=org_id, plan=plan, actor=_actor(request)))


def _actor(request: Request) -> str:
    return f"admin:{request.asker.name}"


def _require_organization_id(org_id: str) -> None:
    if not is_id(org_id, prefix="org"):
        raise NotFound("There is no such organization.")
