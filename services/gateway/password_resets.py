"""Forgotten passwords: a link that is good once, for an hour, and says to nobody whether there is such an account."""

import time
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from services.gateway import attempts, passwords, sessions
from services.gateway.accounts import account_of, set_password
from services.gateway.attempts import Counted
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
# From request to answer, whatever is done in between: a shorter answer would tell that there is no such account.
_ANSWER_SECONDS = 0.25
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

    The event has no token: notifications makes it of the reset's id and end, with the signing secret. Where no
    mail is set up, nobody gets one.

    Raises:
        TooManyAttempts: too many were asked for, for this account or from this address.
    """
    began = time.monotonic()
    with db.transaction() as session:
        attempts.count(session, attempts.RESET, address=address, account=email)
        _let_a_link_be_sent(db, session, email=email)
    time.sleep(max(0.0, began + _ANSWER_SECONDS - time.monotonic()))  # other green threads run meanwhile


def _let_a_link_be_sent(db: Database, session: Session, *, email: str) -> None:
    member = account_of(session, email)
    if member is None:
        return
    reset_id = new_id("pwr")
    expires_at = session.execute(
        sa.insert(PasswordReset)
        .values(id=reset_id, org_id=member.org_id, user_id=member.id, expires_at=_RESET_END)
        .returning(PasswordReset.expires_at)
    ).scalar_one()
    requested = PasswordResetRequested(
        org_id=member.org_id, user_id=member.id, reset_id=reset_id, expires_at=rfc3339(expires_at), email=email
    )
    db.publish(session, [requested])


def confirm(db: Database, *, token: str, password: str, address: str, secret: str) -> None:
    """Set a new password by the token of a reset, and end all sessions of that member.

    Nothing is hashed for a token that is good for nothing, however often it is sent.

    Raises:
        ResetInvalid, ResetExpired, ResetUsed: the token is good for nothing (any more).
        TooManyAttempts: it was tried too often, or too many were from this address.
    """
    try:
        reset_id = tokens.read(token, secret=secret, purpose=tokens.PASSWORD_RESET, now=time.time())
    except tokens.TokenForged:
        raise _invalid() from None
    except tokens.TokenExpired:
        raise _expired() from None
    with db.transaction() as session:
        attempt = attempts.count(session, attempts.CONFIRM, address=address, account=reset_id)
    with db.transaction() as session:
        _usable(session, reset_id=reset_id)
    password_hash = passwords.hashed(password)
    with db.transaction() as session:
        _use(session, reset_id=reset_id, password_hash=password_hash, attempt=attempt, address=address)


def prune(db: Database) -> None:
    """Forget the resets of more than 30 days ago."""
    with db.transaction() as session:
        session.execute(_PRUNE)


def _usable(session: Session, *, reset_id: str) -> Member:
    """Return the member whose password a reset is for, locked against every other change of it."""
    row = session.execute(
        sa.select(Member, PasswordReset.used_at, PasswordReset.expires_at <= sa.func.now())
        .join(PasswordReset, sa.and_(PasswordReset.org_id == Member.org_id, PasswordReset.user_id == Member.id))
        .where(PasswordReset.id == reset_id, Member.status == "active")
        .with_for_update(of=Member)
    ).one_or_none()
    if row is None:
        raise _invalid()
    member, used_at, expired = row
    if used_at:
        raise ResetUsed("This link was used already, or a password was set since. Ask for a new one.")
    if expired:
        raise _expired()
    return member


def _use(session: Session, *, reset_id: str, password_hash: str, attempt: Counted, address: str) -> None:
    """Set the password a reset is for."""
    member = _usable(session, reset_id=reset_id)
    set_password(session, org_id=member.org_id, user_id=member.id, password_hash=password_hash)
    sessions.end_all(session, org_id=member.org_id, user_id=member.id)
    attempts.take_back(session, attempt)
    attempts.begin_anew(session, attempts.LOGIN, address=address, account=member.email or member.id)
    log.info("password_reset", org_id=member.org_id, user_id=member.id)


def _invalid() -> ResetInvalid:
    errors = [error_at("/token", "invalid", "this is no token of ours for a new password")]
    return ResetInvalid("This link is not valid. Open it exactly as you got it, or ask for a new one.", errors=errors)


def _expired() -> ResetExpired:
    return ResetExpired("This link has expired. Ask for a new one.")
