"""The events that tell of movements in the ledger: from what was moved to what is published. Decides nothing."""

from services.credits.models import Grant
from services.credits.movements import Request, Reserved, Settled
from shared.events import CreditCaptured, CreditReserved, CreditsGranted, RefundIssued


def of_hold(request: Request, reserved: Reserved) -> list[CreditReserved]:
    """Return one `CreditReserved` per unit in which lines were added; none for a repeat."""
    lines = {line.line_id: line for line in reserved.lines}
    return [
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
    )
