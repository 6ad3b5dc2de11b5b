"""What credits does for accounts: opens and fills them, corrects them, changes their plan, lets grants expire.

Each function publishes the events it caused. The rules of the ledger stand in `ledger`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.credits import announcements, ledger, queries
from services.credits.models import CREDITS, UNITS, Account, Adjustment, Grant, OrganizationPlan, Plan
from services.credits.moments import moment
from shared.database import Database
from shared.problems import BadRequest, PreconditionFailed

log = structlog.get_logger(__name__)

# Among grants that expire at the same time, or never: what costs nothing is spent before what was paid for.
PRIORITIES = {"monthly": 10, "promotional": 20, "compensation": 30, "purchased": 40}

# Of expired grants in one transaction; at a month's begin there is one for every organization.
AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class NewGrant:
    """Credits to be given.

    Args:
        grant_id: makes a repeat harmless.
        org_id: who gets them.
        amount: how many.
        kind: ``purchased``, ``promotional``, ``compensation`` or ``monthly``.
        reason: for the history.
        actor: who gives them, for the history.
        expires_at: RFC 3339; what is left by then is taken out. None is never.
        priority: among grants that expire at the same time the lower is spent first; by kind unless given.
    """

    grant_id: str
    org_id: str
    amount: int
    kind: str
    reason: str
    actor: str
    expires_at: str | None = None
    priority: int | None = None


def open_account(db: Database, *, org_id: str, plan: str, amount: int = 0) -> dict[str, Any]:
    """Open an organization's account on a plan, with a first grant of ``amount`` credits; a repeat changes nothing.

    Returns:
        ``{available, held, version}``.

    Raises:
        BadRequest: there is no such plan, or the amount is negative.
    """
    if amount < 0:
        raise BadRequest(f"The first grant of an account is 0 or more credits, not {amount}.")
    with db.transaction() as session:
        _check_plan(session, plan)
        added = insert(OrganizationPlan).values(org_id=org_id, plan=plan).on_conflict_do_nothing()
        if session.scalar(added.returning(OrganizationPlan.org_id)):
            accounts = [{"org_id": org_id, "unit": unit, "kind": kind} for unit in UNITS for kind in ("wallet", "held")]
            session.execute(sa.insert(Account), accounts)
            if amount:
                opening = NewGrant(
                    grant_id=f"{org_id}/opening",
                    org_id=org_id,
                    amount=amount,
                    kind="promotional",
                    reason="opening balance",
                    actor="gateway",
                )
                _give(db, session, _read(opening))
            log.info("account_opened", org_id=org_id, plan=plan, amount=amount)
        return queries.wallet(session, org_id=org_id)


def grant(db: Database, **asked: Any) -> dict[str, Any]:
    """Give credits to an organization, once per ``grant_id``; a repeat answers with today's balance.

    Args:
        db: the database of credits.
        asked: as `NewGrant`.

    Returns:
        ``{available, held, version}``.

    Raises:
        BadRequest: the amount is not positive, the kind unknown, or the expiry past.
        Conflict: the grant id was used for something else.
        NotFound: the organization has no account.
    """
    given = _read(NewGrant(**asked))
    with db.transaction() as session:
        _give(db, session, given)
        return queries.wallet(session, org_id=given.org_id)


def adjust(
    db: Database, *, adjustment_id: str, org_id: str, amount: int, reason: str, actor: str, unit: str = CREDITS
) -> dict[str, Any]:
    """Correct a wallet by ``amount``, once per ``adjustment_id``; a negative one takes credits back.

    Returns:
        ``{available, held, version}``, in credits.

    Raises:
        BadRequest: the amount is 0, or the unit unknown.
        Conflict: the wallet has less than is to be taken back, or the id was used for something else.
        NotFound: the organization has no account.
    """
    if amount == 0 or unit not in UNITS:
        raise BadRequest(f"An adjustment is an amount other than 0 in one of the units {', '.join(UNITS)}.")
    asked = Adjustment(id=adjustment_id, org_id=org_id, unit=unit, amount=amount, reason=reason, actor=actor)
    with db.transaction() as session:
        wallet = ledger.withdraw(session, asked) if amount < 0 else ledger.add(session, asked)
        if wallet is not None:
            available, version = wallet
            db.publish(session, [announcements.of_adjustment(asked, available=available, version=version)])
            log.info("wallet_adjusted", org_id=org_id, adjustment_id=adjustment_id, amount=amount, actor=actor)
        return queries.wallet(session, org_id=org_id)


def change_plan(db: Database, *, org_id: str, plan: str, actor: str, only_from: str | None = None) -> dict[str, Any]:
    """Give an organization another plan, at once: this month's allowance follows, what was used stays used.

    Returns:
        the balance as `queries.balance` has it.

    Raises:
        BadRequest: there is no such plan.
        NotFound: the organization has no account.
        PreconditionFailed: it is not on the plan ``only_from``, where that is given; nothing was changed.
    """
    with db.transaction() as session:
        _check_plan(session, plan)
        change = ledger.change_plan(session, org_id=org_id, plan=plan, actor=actor)
        if only_from not in {None, change.previous_plan}:
            raise PreconditionFailed(f"The organization is on the plan {change.previous_plan} by now.")
        if change.previous_plan != plan:
            db.publish(session, [announcements.of_plan(change, org_id=org_id, plan=plan, actor=actor)])
            log.info("plan_changed", org_id=org_id, plan=plan, previous_plan=change.previous_plan, actor=actor)
        return queries.balance(session, org_id=org_id)


def expire_grants(db: Database, *, now: datetime | None = None) -> int:
    """Take what is left of expired grants out of their wallets; return how many grants there were.

    Holds never touch an expired grant; this only brings the balance up to that. A month's allowance ends without
    an event: the next one is there.
    """
    count, more = 0, True
    while more:
        with db.transaction() as session:
            expired = ledger.expire_grants(session, most=AT_ONCE, now=now)
            db.publish(session, [announcements.of_expiry(each) for each in expired if each.unit == CREDITS])
        for each in expired:
            log.info("grant_expired", org_id=each.org_id, grant_id=each.grant_id, amount=each.amount)
        count, more = count + len(expired), len(expired) == AT_ONCE
    return count


def _give(db: Database, session: Session, given: Grant) -> None:
    wallet = ledger.give(session, given)
    if wallet is not None:
        available, version = wallet
        db.publish(session, [announcements.of_grant(given, available=available, version=version)])


def _read(asked: NewGrant) -> Grant:
    if asked.amount <= 0 or asked.kind not in PRIORITIES:
        raise BadRequest(f"A grant is a positive amount of one of the kinds {', '.join(PRIORITIES)}.")
    expiry = moment(asked.expires_at) if asked.expires_at else None
    if expiry and expiry <= datetime.now(UTC):
        raise BadRequest(f"A grant expires in the future, not at {asked.expires_at}.")
    return Grant(
        id=asked.grant_id,
        org_id=asked.org_id,
        unit=CREDITS,
        amount=asked.amount,
        kind=asked.kind,
        priority=PRIORITIES[asked.kind] if asked.priority is None else asked.priority,
        expires_at=expiry,
        reason=asked.reason,
        actor=asked.actor,
    )


def _check_plan(session: Session, plan: str) -> None:
    names = session.scalars(sa.select(Plan.name).order_by(Plan.price_usd_cents)).all()
    if plan not in names:
        raise BadRequest(f"There is no plan {plan!r}; the plans are {', '.join(names)}.")
