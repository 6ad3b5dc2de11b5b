"""Why an invitation is refused, and the way on that each refusal shows."""

from shared.http_schemas import error_at
from shared.problems import BadRequest, Conflict, Problem


class InvitationInvalid(BadRequest):
    """The token was altered, or never ours."""

    code = "invitation_invalid"
    title = "This invitation is not valid"
    remedy = "Open the link exactly as you got it; if it was cut, ask for a new invitation."


class InvitationExpired(Problem):
    """Its 7 days are over."""

    status = 410
    code = "invitation_expired"
    title = "The invitation has expired"
    remedy = "Ask whoever invited you to send another invitation."


class InvitationRevoked(Problem):
    """Whoever invites took it back, sent a newer one, or may invite nobody any more."""

    status = 410
    code = "invitation_revoked"
    title = "The invitation was taken back"
    remedy = "Look for a newer invitation, or ask whoever invited you for one."


class InvitationUsed(Conflict):
    """Somebody has signed up with it already; ``login_url`` is where to go."""

    code = "invitation_used"
    title = "The invitation was used already"
    remedy = "Log in at `login_url` with the password you chose then."


class AccountExists(Conflict):
    """Somebody with this address has signed up before; ``login_url`` and ``reset_url`` are where to go."""

    code = "account_exists"
    title = "There is an account already"
    remedy = "Log in at `login_url`, or choose a new password at `reset_url`."


class AlreadyMember(Conflict):
    """The address is a member's of this organization."""

    code = "already_member"
    title = "This person is a member already"
    remedy = "Nothing is left to do; `GET /v1/members` lists them."


def invalid() -> InvitationInvalid:
    """Return the refusal of a token that is for none of our invitations."""
    errors = [error_at("/token", "invalid", "this is no token of an invitation of ours")]
    return InvitationInvalid("This invitation is not valid. Open the link exactly as you got it.", errors=errors)


def expired() -> InvitationExpired:
    """Return the refusal of an invitation whose time is over."""
    return InvitationExpired("Invitation expired. Contact your administrator for a new invitation.")


def revoked() -> InvitationRevoked:
    """Return the refusal of an invitation that was taken back."""
    return InvitationRevoked("Invitation revoked. Contact your administrator for a new invitation.")


def used(public_url: str) -> InvitationUsed:
    """Return the refusal of an invitation that was accepted before, with the way on."""
    return InvitationUsed("This invitation was used already. Try logging in instead.", login_url=_login(public_url))


def account_exists(public_url: str) -> AccountExists:
    """Return the refusal of an address that has signed up before, with the ways on."""
    return AccountExists(
        "Account already exists. Try logging in instead.",
        login_url=_login(public_url),
        reset_url=f"{public_url}/password-reset",
    )


def _login(public_url: str) -> str:
    return f"{public_url}/login"
