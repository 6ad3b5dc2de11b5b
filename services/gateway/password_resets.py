"""Forgotten passwords: a link that is good once, for an hour, and says to nobody whether there is such an account."""

import time
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway import attempts, passwords, sessions
from services.gateway.accounts import account_of, set_password
from services.gateway.models import Member, PasswordReset
from shared import tokens
from shared.database import Database
from shared.events import PasswordResetRequested
from shared.http_fields import rfc3339
from shared.http_schemas import error_at
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, Problem

log = structlog.get_logger(__name__)

RESET_MINUTES = 60
_RESET_END: Any = sa.literal_column(f"date_trunc('second', now()) + interval '{RESET_MINUTES} minutes'")
_PRUNE = sa.text("DELETE FROM password_resets WHERE expires_at < now() - interval '30 days'")


class ResetInvalid(BadRequest):
    """The token was altered, or never ours."""

    code = "reset_invalid"
    title = "This link is not valid"
    remedy = "Open the link exactly as you got it, or ask for a new one with `POST /v1/auth/password-reset`."


class ResetExpired(Problem):
    """Its hour is over."""

    status = 410
    code = "reset_expired"
    title = "The link has expired"
    remedy = "Ask for a new link with `POST /v1/auth/password-reset`."


class ResetUsed(Conflict):
    """A password was set with it, or with a newer one, already."""

    code = "reset_used"
    title = "The link was used already"
    remedy = "Log in with the new password, or ask for another link."


def request(db: Database, *, email: str, address: str) -> None:
    """Let whoever sends mail send a link for a new password, where there is such an account; nobody is told whether.

    The event has no token: notifications makes it of the reset's id and end, with the signing secret. Until mail is
    sent, nobody gets one.

    Raises:
        TooManyAttempts: too many were asked for, for this account or from this address.
    """
    attempts.count_reset(db, address=address, email=email)
    with db.transaction() as session:
        member = account_of(session, email)
        if member is None:
            return
        reset = PasswordReset(id=new_id("pwr"), org_id=member.org_id, user_id=member.id, expires_at=_RESET_END)
        session.add(reset)
        session.flush()
        session.refresh(reset)
        requested = PasswordResetRequested(
            org_id=member.org_id,
            user_id=member.id,
            reset_id=reset.id,
            expires_at=rfc3339(reset.expires_at),
            email=email,
        )
        db.publish(session, [requested])


def confirm(db: Database, *, token: str, password: str, secret: str) -> None:
    """Set a new password by the token of a reset, and end all sessions of that member.

    Raises:
        ResetInvalid, ResetExpired, ResetUsed: the token is good for nothing (any more).
    """
    try:
        reset_id = tokens.read(token, secret=secret, purpose=tokens.PASSWORD_RESET, now=time.time())
    except tokens.TokenForged:
        raise _invalid() from None
    except tokens.TokenExpired:
        raise _expired() from None
    password_hash = passwords.hashed(password)
    with db.transaction() as session:
        email = _use(session, reset_id=reset_id, password_hash=password_hash)
    attempts.forget(db, email=email)


def prune(db: Database) -> None:
    """Forget the resets of more than 30 days ago."""
    with db.transaction() as session:
        session.execute(_PRUNE)


def _use(session: Session, *, reset_id: str, password_hash: str) -> str:
    """Set the password a reset is for, and return the account's address."""
    row = session.execute(
        sa.select(PasswordReset, Member.email, PasswordReset.expires_at <= sa.func.now())
        .join(Member, sa.and_(Member.org_id == PasswordReset.org_id, Member.id == PasswordReset.user_id))
        .where(PasswordReset.id == reset_id, Member.status == "active")
        .with_for_update(of=PasswordReset)
    ).one_or_none()
    if row is None:
        raise _invalid()
    reset, email, expired = row
    if reset.used_at:
        raise ResetUsed("This link was used already, or a password was set since. Ask for a new one.")
    if expired:
        raise _expired()
    set_password(session, org_id=reset.org_id, user_id=reset.user_id, password_hash=password_hash)
    sessions.end_all(session, org_id=reset.org_id, user_id=reset.user_id)
    log.info("password_reset", org_id=reset.org_id, user_id=reset.user_id)
    return str(email)


def _invalid() -> ResetInvalid:
    errors = [error_at("/token", "invalid", "this is no token of ours for a new password")]
    return ResetInvalid("This link is not valid. Open it exactly as you got it, or ask for a new one.", errors=errors)


def _expired() -> ResetExpired:
    return ResetExpired("This link has expired. Ask for a new one.")
