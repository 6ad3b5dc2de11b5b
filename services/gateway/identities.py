"""Members as an identity provider knows them: whose token it is, and how somebody joins with one.

A subject that is linked is its member, whatever else the token says. One that is not becomes a member's by an address
that the issuer has verified: that of a member, or of an open invitation, which is thereby accepted.
"""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.gateway import accounts, flags, invitations, sessions
from services.gateway.identity_provider import Claimed
from services.gateway.invitation_problems import AccountExists, InvitationExpired, InvitationRevoked, InvitationUsed
from services.gateway.models import Invitation, LinkedIdentity, Member
from shared.database import Database
from shared.http import Principal
from shared.problems import Forbidden, Unavailable

log = structlog.get_logger(__name__)

_LINKED = sa.text("""
SELECT asked.issuer, asked.subject, member.org_id, member.id
FROM unnest(CAST(:issuers AS text[]), CAST(:subjects AS text[])) AS asked(issuer, subject)
JOIN linked_identities AS linked ON linked.issuer = asked.issuer AND linked.subject = asked.subject
JOIN members AS member ON member.org_id = linked.org_id AND member.id = linked.user_id AND member.status = 'active'
""")
_TRIES = 3
# What was true a moment ago is not any more: the same person's other request, or an owner, was quicker.
_OVERTAKEN = (IntegrityError, InvitationUsed, InvitationRevoked, InvitationExpired, AccountExists)


class NotInvited(Forbidden):
    """The token is good, but its bearer is no member, and has no invitation that is open."""

    code = "not_invited"
    title = "You are not a member here"
    remedy = "Ask an owner to invite the address your identity provider has verified; the token has to carry it."


class LinkedToAnother(Forbidden):
    """The member with this address comes with another account of the same identity provider."""

    code = "linked_to_another"
    title = "This member has another account"
    remedy = "Log in with the account you came with first, or ask an owner to remove and invite you again."


def principal_of(db: Database, claimed: Claimed) -> Principal:
    """Return the member that ``claimed`` is; a first request may make them one.

    Raises:
        NotInvited: nobody knows them.
        LinkedToAnother: the member whose address it is comes with another account of the issuer's.
    """
    with db.transaction() as session:
        member = _linked(session, claimed)
    known = member or _link(db, claimed)
    with db.transaction(org_id=known.org_id) as session:
        return _principal(known, flags.features_of(session, org_id=known.org_id))


def members_of(session: Session, claimed: Collection[Claimed]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return ``{(issuer, subject): (org_id, user_id)}`` of those who are members now; nobody becomes one by this."""
    asked = {"issuers": [one.issuer for one in claimed], "subjects": [one.subject for one in claimed]}
    return {(row.issuer, row.subject): (row.org_id, row.id) for row in session.execute(_LINKED, asked)}


def _principal(member: Member, features: frozenset[str]) -> Principal:
    return Principal(
        kind="oidc",
        id=member.id,
        name=member.name or member.email or member.id,
        org_id=member.org_id,
        user_id=member.id,
        role=member.role,
        features=features,
    )


def _linked(session: Session, claimed: Claimed) -> Member | None:
    return session.scalar(
        sa.select(Member)
        .join(LinkedIdentity, sa.and_(LinkedIdentity.org_id == Member.org_id, LinkedIdentity.user_id == Member.id))
        .where(
            LinkedIdentity.issuer == claimed.issuer,
            LinkedIdentity.subject == claimed.subject,
            Member.status == "active",
        )
    )


def _link(db: Database, claimed: Claimed) -> Member:
    for _ in range(_TRIES):
        try:
            with db.transaction() as session:
                return _linked(session, claimed) or _member_by_email(db, session, claimed)
        except _OVERTAKEN as error:
            log.info("identity_link_overtaken", error_type=type(error).__name__)
    raise Unavailable("Somebody changes your membership right now; try again in a moment.", retry_after=1)


def _member_by_email(db: Database, session: Session, claimed: Claimed) -> Member:
    """Link ``claimed`` to the member with its address, who may become one by that."""
    if claimed.email is None:
        raise NotInvited(
            "This account is not known here yet, and its token has no verified address to know it by: it needs the"
            " claims email and email_verified (true)."
        )
    # In this order: who joins between the two statements is found by the second, if not by the first.
    open_ones = _open_invitations(session, claimed.email)
    member = session.scalar(
        sa.select(Member).where(Member.email == claimed.email, Member.status == "active").with_for_update()
    )
    if member is None:
        member = _accepted(db, session, claimed, open_ones)
    elif _linked(session, claimed):
        return member  # by another request of the same person, whom this one has waited for
    _require_no_other(session, claimed, member)
    _end_other_ways(session, member)
    session.add(LinkedIdentity(issuer=claimed.issuer, subject=claimed.subject, org_id=member.org_id, user_id=member.id))
    session.flush()
    log.info("identity_linked", org_id=member.org_id, user_id=member.id)
    return member


def _open_invitations(session: Session, email: str) -> Sequence[str]:
    return session.scalars(
        sa.select(Invitation.id).where(
            Invitation.email == email,
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
            Invitation.expires_at > sa.func.now(),
        )
    ).all()


def _accepted(db: Database, session: Session, claimed: Claimed, open_ones: Sequence[str]) -> Member:
    """Accept the one open invitation for the address of ``claimed``."""
    if not open_ones:
        raise NotInvited("Nobody has invited this address, or not within the last 7 days; ask for an invitation.")
    if len(open_ones) > 1:
        # Who invites last, or first, must not be able to choose for somebody where they belong.
        raise NotInvited("Several organizations have invited this address: sign up with the invitation of yours.")
    invitation, _ = invitations.open_invitation(session, invitation_id=open_ones[0], public_url="")
    member = accounts.accept(session, invitation, name=claimed.name)
    db.publish(session, [accounts.joined(member)])
    return member


def _end_other_ways(session: Session, member: Member) -> None:
    """End a password and the sessions of it: whoever chose it may never have read this address's mail.

    The address is proved now, and its owner can have a new password by mail.
    """
    if member.password_hash is not None:
        member.password_hash = None
        sessions.end_all(session, org_id=member.org_id, user_id=member.id)
        log.info("unproved_password_ended", org_id=member.org_id, user_id=member.id)


def _require_no_other(session: Session, claimed: Claimed, member: Member) -> None:
    other = session.scalar(
        sa.select(LinkedIdentity.subject).where(
            LinkedIdentity.org_id == member.org_id,
            LinkedIdentity.user_id == member.id,
            LinkedIdentity.issuer == claimed.issuer,
        )
    )
    if other is not None:
        raise LinkedToAnother(
            "The member with this address logs in with another account of this identity provider. Log in with that"
            " one, or have an owner remove and invite you again."
        )
