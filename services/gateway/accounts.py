"""Accounts of people: signing up with an invitation, logging in, and changing a password.

Hashing is never done while a transaction is open. What is said of an account that is not there is what is said of one
that is.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.gateway import attempts, invitations, members, passwords, sessions
from services.gateway.models import Invitation, Member, Organization, PasswordReset
from services.gateway.sessions import Device, Opened
from shared.database import Database
from shared.events import MemberJoined
from shared.http import Principal
from shared.http_fields import rfc3339
from shared.http_schemas import error_at, refusal
from shared.problems import Forbidden, Unauthenticated

log = structlog.get_logger(__name__)


class WrongPassword(Forbidden):
    """The current password is another one."""

    code = "wrong_password"
    title = "The current password is not right"
    remedy = "Send the password you log in with as `current_password`."


@dataclass(frozen=True, kw_only=True)
class SignUp:
    """What somebody who was invited says. ``email`` is None where they leave it as it is in the invitation."""

    token: str
    name: str
    password: str
    terms_version: str
    email: str | None = None
    request_key: str | None = None

    def __repr__(self) -> str:
        return "SignUp(…)"


@dataclass(frozen=True, kw_only=True)
class SignedIn:
    """Who has just been logged in, and how. ``again`` says that the same request had done it before."""

    session: Opened
    member: dict[str, Any]
    organization: dict[str, Any]
    again: bool = False


def sign_up(db: Database, wanted: SignUp, *, device: Device, secret: str, public_url: str) -> SignedIn:
    """Make an invited person a member who is logged in: all of it, or nothing.

    The same request again, by its Idempotency-Key, makes no second account and logs in once more.

    Raises:
        InvitationInvalid, InvitationExpired, InvitationRevoked, InvitationUsed, AccountExists: see `invitations`.
        BadRequest: the address is not the invited one.
        TooManyAttempts: it was repeated too often, which may be somebody who guesses the password.
    """
    invitation_id = invitations.subject_of(wanted.token, secret=secret)
    with db.transaction() as session:
        done = _done_by(session, wanted, invitation_id=invitation_id)
        if done is None:
            invitation, _ = invitations.open_invitation(session, invitation_id=invitation_id, public_url=public_url)
            _require_invited_address(wanted, invitation)
    if done:
        return _sign_up_again(db, wanted, done, device=device, public_url=public_url)
    password_hash = passwords.hashed(wanted.password)
    try:
        with db.transaction() as session:
            invitation, _ = invitations.open_invitation(session, invitation_id=invitation_id, public_url=public_url)
            member = _join(session, wanted, invitation, password_hash=password_hash)
            db.publish(session, [_joined(member)])
            return _signed_in(session, member, device=device)
    except IntegrityError:  # the same address signed up to another organization within this very moment
        raise invitations.account_exists(public_url) from None


def log_in(db: Database, *, email: str, password: str, device: Device) -> SignedIn:
    """Log a member in.

    Raises:
        TooManyAttempts: the address or the account was tried too often.
        Unauthenticated: there is no such account, or the password is another: nobody is told which.
    """
    attempts.count(db, address=device.address, email=email)
    with db.transaction() as session:
        member = account_of(session, email)
    if not passwords.fits(password, member.password_hash if member else None) or member is None:
        log.info("login_refused")
        raise _refused()
    attempts.forget(db, email=email)
    return _begin(db, member, device=device)


def change_password(db: Database, asker: Principal, *, current: str, new: str, address: str) -> None:
    """Give the asker another password and end all other sessions of theirs.

    Raises:
        TooManyAttempts: the current one was guessed at too often.
        WrongPassword: ``current`` is not it.
    """
    with db.transaction(org_id=asker.org_id) as session:
        member = _member_of(session, asker)
    attempts.count(db, address=address, email=member.email or member.id)
    if not passwords.fits(current, member.password_hash):
        raise WrongPassword("The current password is not right. Nothing was changed.")
    password_hash = passwords.hashed(new)
    with db.transaction(org_id=asker.org_id) as session:
        set_password(session, org_id=member.org_id, user_id=member.id, password_hash=password_hash)
        sessions.end_all(session, org_id=member.org_id, user_id=member.id, besides=asker.session_id)
    attempts.forget(db, email=member.email or member.id)
    log.info("password_changed", org_id=member.org_id, user_id=member.id)


def _sign_up_again(db: Database, wanted: SignUp, member: Member, *, device: Device, public_url: str) -> SignedIn:
    """Answer a request that was answered before, if it is the same up to the password, by logging in."""
    attempts.count(db, address=device.address, email=member.email or member.id)
    if not passwords.fits(wanted.password, member.password_hash):
        raise invitations.used(public_url)
    return _begin(db, member, device=device, again=True)


def _done_by(session: Session, wanted: SignUp, *, invitation_id: str) -> Member | None:
    """Return the member that this very request made before, if it did."""
    if wanted.request_key is None:
        return None
    return session.scalar(
        sa.select(Member)
        .join(Invitation, sa.and_(Invitation.org_id == Member.org_id, Invitation.user_id == Member.id))
        .where(
            Invitation.id == invitation_id,
            Invitation.request_sha256 == _sha256(wanted.request_key),
            Invitation.accepted_at.is_not(None),
            Member.status == "active",
        )
    )


def _require_invited_address(wanted: SignUp, invitation: Invitation) -> None:
    if wanted.email is not None and wanted.email != invitation.email:
        raise refusal([error_at("/email", "invalid", f"the invitation is for {invitation.email}")])


def _join(session: Session, wanted: SignUp, invitation: Invitation, *, password_hash: str) -> Member:
    now = session.execute(sa.select(sa.func.now())).scalar_one()
    member = session.scalars(
        sa.select(Member)
        .where(Member.org_id == invitation.org_id, Member.id == invitation.user_id, Member.status == "invited")
        .with_for_update()
    ).one()
    member.status = "active"
    member.name = wanted.name
    member.role = invitation.role
    member.password_hash = password_hash
    member.joined_at = member.terms_accepted_at = now
    member.terms_version = wanted.terms_version
    invitation.accepted_at = now
    invitation.request_sha256 = _sha256(wanted.request_key) if wanted.request_key else None
    session.flush()
    return member


def _joined(member: Member) -> MemberJoined:
    log.info("member_joined", org_id=member.org_id, user_id=member.id)
    return MemberJoined(
        org_id=member.org_id,
        user_id=member.id,
        role=member.role,
        name=member.name or "",
        joined_at=rfc3339(member.joined_at or member.created_at),
        email=member.email or "",
    )


def _begin(db: Database, member: Member, *, device: Device, again: bool = False) -> SignedIn:
    """Log in a member whose password was right, unless it is another by now: changing it ends all sessions."""
    with db.transaction() as session:
        unchanged = session.scalar(
            sa.select(Member)
            .where(Member.id == member.id, Member.status == "active", Member.password_hash == member.password_hash)
            .with_for_update(read=True)
        )
        if unchanged is None:
            raise _refused()
        return _signed_in(session, unchanged, device=device, again=again)


def _signed_in(session: Session, member: Member, *, device: Device, again: bool = False) -> SignedIn:
    name = session.execute(sa.select(Organization.name).where(Organization.id == member.org_id)).scalar_one()
    return SignedIn(
        session=sessions.begin(session, org_id=member.org_id, user_id=member.id, device=device),
        member=members.as_dict(member),
        organization={"id": member.org_id, "name": name},
        again=again,
    )


def account_of(session: Session, email: str) -> Member | None:
    """Return the member who has signed up with this address, if anybody has."""
    return session.scalar(sa.select(Member).where(Member.email == email, Member.status == "active"))


def _member_of(session: Session, asker: Principal) -> Member:
    return session.scalars(sa.select(Member).where(Member.org_id == asker.org_id, Member.id == asker.user_id)).one()


def set_password(session: Session, *, org_id: str, user_id: str, password_hash: str) -> None:
    """Give a member another password; links to set one that are still on their way end."""
    session.execute(
        sa.update(Member)
        .where(Member.org_id == org_id, Member.id == user_id, Member.status == "active")
        .values(password_hash=password_hash)
    )
    session.execute(
        sa.update(PasswordReset)
        .where(PasswordReset.org_id == org_id, PasswordReset.user_id == user_id, PasswordReset.used_at.is_(None))
        .values(used_at=sa.func.now())
    )


def _refused() -> Unauthenticated:
    return Unauthenticated("The e-mail address or the password is wrong.")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
