"""The events that tell of movements in the ledger: from what was moved to what is published. Decides nothing."""

from dataclasses import asdict

from services.credits.models import Adjustment, Grant
from services.credits.movements import Expired, PlanChange, Request, Reserved, Returned, Settled
from shared.events import (
    CreditCaptured,
    CreditReserved,
    CreditsAdjusted,
    CreditsExpired,
    CreditsGranted,
    PlanChanged,
    QuotaThresholdReached,
    RefundIssued,
)
from shared.times import rfc3339


def of_hold(request: Request, reserved: Reserved) -> list[CreditReserved | QuotaThresholdReached]:
    """Return one `CreditReserved` per unit in which lines were added, none for a repeat; and what that used up."""
    lines = {line.line_id: line for line in reserved.lines}
    held = [
        CreditReserved(
            reservation_id=reserved.reservation_id or "",
            job_id=request.job_id,
            org_id=request.org_id,
            amount=hold.amount,
            unit=hold.unit,
            lines=[lines[line_id] for line_id in hold.line_ids],
            available=hold.available,
            version=hold.version,
        )
        for hold in reserved.holds
    ]
    return [*held, *(QuotaThresholdReached(org_id=request.org_id, **asdict(each)) for each in reserved.thresholds)]


def of_settlement(line: Settled) -> list[CreditCaptured | RefundIssued]:
    """Return `CreditCaptured` for what was spent and `RefundIssued` for what came back."""
    events: list[CreditCaptured | RefundIssued] = []
    if line.captured:
        events.append(
            CreditCaptured(
                reservation_id=line.reservation_id,
                job_id=line.job_id,
                org_id=line.org_id,
                line_id=line.line_id,
                amount=line.captured,
                unit=line.unit,
            )
        )
    if line.refunded and line.reason and line.available is not None and line.version is not None:
        events.append(
            RefundIssued(
                reservation_id=line.reservation_id,
                job_id=line.job_id,
                org_id=line.org_id,
                line_id=line.line_id,
                amount=line.refunded,
                unit=line.unit,
                reason=line.reason,
                available=line.available,
                version=line.version,
            )
        )
    return events


def of_return(line: Returned, *, job_id: str, reason: str) -> RefundIssued:
    """Return the event of a charge that was given back now."""
    return RefundIssued(
        reservation_id=line.reservation_id,
        job_id=job_id,
        org_id=line.org_id,
        line_id=line.line_id,
        amount=line.amount,
        unit=line.unit,
        reason=reason,
        available=line.available or 0,
        version=line.version or 0,
        after_capture=True,
    )


def of_grant(given: Grant, *, available: int, version: int) -> CreditsGranted:
    """Return the event of a grant that was paid out now; the balance is the wallet's after it."""
    return CreditsGranted(
        grant_id=given.id,
        org_id=given.org_id,
        amount=given.amount,
        unit=given.unit,
        kind=given.kind,
        available=available,
        version=version,
        expires_at=rfc3339(given.expires_at) if given.expires_at else None,
    )


def of_adjustment(made: Adjustment, *, available: int, version: int) -> CreditsAdjusted:
    """Return the event of a correction that was made now."""
    return CreditsAdjusted(
        adjustment_id=made.id,
        org_id=made.org_id,
        amount=made.amount,
        unit=made.unit,
        reason=made.reason,
        available=available,
        version=version,
    )


def of_expiry(expired: Expired) -> CreditsExpired:
    """Return the event of credits that expired now."""
    return CreditsExpired(**asdict(expired))


def of_plan(change: PlanChange, *, org_id: str, plan: str, actor: str) -> PlanChanged:
    """Return the event of a plan that was changed now."""
    return PlanChanged(
        org_id=org_id,
        plan=plan,
        previous_plan=change.previous_plan,
        monthly_generations=change.monthly_generations,
        changed_by=actor,
    )
