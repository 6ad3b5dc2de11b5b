"""Routes of accounts: signing up, logging in and out, sessions, passwords."""

from collections.abc import Callable
from typing import Any

from services.gateway import accounts, idempotency, password_resets, sessions
from services.gateway.accounts import SignedIn, SignUp, WrongPassword
from services.gateway.attempts import TooManyAttempts
from services.gateway.authentication import api_key
from services.gateway.password_resets import ResetExpired, ResetInvalid, ResetUsed
from services.gateway.permissions import ACCOUNT
from services.gateway.routes.invitations import NOT_TO_ACCEPT
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.accounts import (
    LogInRequest,
    NewPasswordRequest,
    PasswordRequest,
    ResetRequest,
    ResetRequestedSchema,
    SessionsSchema,
    SignedInSchema,
    SignUpRequest,
)
from services.gateway.schemas.pages import PageQuery
from services.gateway.sessions import Device
from shared.http import Alias, Answer, Outcome, Request, route
from shared.http_fields import rfc3339
from shared.ids import is_id
from shared.problems import Forbidden, NotFound, Unauthenticated

_TAGS = ("people",)


def _with_key(_service: Any, request: Request, proceed: Callable[[], Outcome]) -> Outcome:
    """Read the Idempotency-Key of somebody who is nobody yet: the invitation remembers it."""
    request.claim = idempotency.key_of(request, required=False)
    return proceed()


class AccountRoutes(Wiring):
    """A person's own way in and out."""

    @route(
        "POST",
        "/v1/auth/signup",
        aliases=(Alias("POST", "/api/auth/signup"),),
        auth=None,
        guard=_with_key,
        body=SignUpRequest,
        answers={201: SignedInSchema},
        problems=(*NOT_TO_ACCEPT, TooManyAttempts),
        summary="Sign up with an invitation",
        description="Makes the member and logs in, both or neither.",
        tags=_TAGS,
    )
    def sign_up(self, request: Request) -> Answer:
        """Make an invited person a member."""
        said = {name: request.body[name] for name in ("token", "email", "name", "password")}
        wanted = SignUp(**said, terms_version=self.settings.terms_version, request_key=request.claim)
        try:
            signed_in = accounts.sign_up(
                self.db,
                wanted,
                device=Device.of(request),
                secret=self.settings.signing_secret,
                public_url=self.settings.public_url,
            )
        except Exception as error:
            self.failed_sign_ups.note(error)
            raise
        answer = _shown(201, signed_in)
        return answer.with_headers({idempotency.REPLAYED: "true"}) if signed_in.again else answer

    @route(
        "POST",
        "/v1/auth/login",
        auth=None,
        body=LogInRequest,
        answers={200: SignedInSchema},
        problems=(Unauthenticated, TooManyAttempts),
        summary="Log in, for 7 days",
        tags=_TAGS,
    )
    def log_in(self, request: Request) -> Answer:
        """Log in."""
        return _shown(200, accounts.log_in(self.db, **request.body, device=Device.of(request)))

    @route(
        "POST",
        "/v1/auth/logout",
        auth=api_key,
        needs=ACCOUNT,
        answers={204: None},
        problems=(Forbidden,),
        summary="Log out: end this session",
        tags=_TAGS,
    )
    def log_out(self, request: Request) -> Answer:
        """End the session that asks."""
        if request.asker.session_id is None:
            raise Forbidden("You are logged in at your identity provider; log out there.")
        sessions.end(self.db, request.asker, session_id=str(request.asker.session_id))
        self.known_keys.forget(request.org_id)
        return Answer(204)

    @route(
        "POST",
        "/v1/auth/password",
        auth=api_key,
        needs=ACCOUNT,
        body=PasswordRequest,
        answers={204: None},
        problems=(Forbidden, WrongPassword, TooManyAttempts),
        summary="Change the password; ends all other sessions",
        tags=_TAGS,
    )
    def change_password(self, request: Request) -> Answer:
        """Set another password."""
        accounts.change_password(
            self.db,
            request.asker,
            current=request.body["current_password"],
            new=request.body["new_password"],
            address=request.address,
        )
        self.known_keys.forget(request.org_id)
        return Answer(204)

    @route(
        "POST",
        "/v1/auth/password-reset",
        auth=None,
        body=ResetRequest,
        answers={202: ResetRequestedSchema},
        problems=(TooManyAttempts,),
        summary="Ask for a link to set a new password",
        description="The answer is the same whether or not there is such an account. The link is good for an hour.",
        tags=_TAGS,
    )
    def request_reset(self, request: Request) -> Answer:
        """Have a link sent, if there is anybody to send it to."""
        password_resets.request(self.db, email=request.body["email"], address=request.address)
        return Answer(202, {"detail": "If there is an account with this address, a link is on its way to it."})

    @route(
        "POST",
        "/v1/auth/password-reset/confirm",
        auth=None,
        body=NewPasswordRequest,
        answers={204: None},
        problems=(ResetInvalid, ResetExpired, ResetUsed, TooManyAttempts),
        summary="Set a new password with a link; ends all sessions",
        tags=_TAGS,
    )
    def reset_password(self, request: Request) -> Answer:
        """Set the new password."""
        password_resets.confirm(self.db, **request.body, address=request.address, secret=self.settings.signing_secret)
        self.known_keys.forget()
        return Answer(204)

    @route(
        "GET",
        "/v1/auth/sessions",
        auth=api_key,
        needs=ACCOUNT,
        query=PageQuery,
        answers={200: SessionsSchema},
        problems=(Forbidden,),
        summary="List where you are logged in, newest first",
        tags=_TAGS,
    )
    def sessions(self, request: Request) -> Answer:
        """Return a page of the asker's open sessions."""
        return Answer(200, sessions.page(self.db, request.asker, **request.query))

    @route(
        "DELETE",
        "/v1/auth/sessions",
        auth=api_key,
        needs=ACCOUNT,
        answers={204: None},
        problems=(Forbidden,),
        summary="End all your other sessions",
        tags=_TAGS,
    )
    def end_other_sessions(self, request: Request) -> Answer:
        """End all but the session that asks."""
        asker = request.asker
        with self.db.transaction(org_id=asker.org_id) as session:
            sessions.end_all(session, org_id=request.org_id, user_id=asker.id, besides=asker.session_id)
        self.known_keys.forget(request.org_id)
        return Answer(204)

    @route(
        "DELETE",
        "/v1/auth/sessions/<session_id>",
        auth=api_key,
        needs=ACCOUNT,
        answers={204: None},
        problems=(Forbidden,),
        summary="End one of your sessions",
        tags=_TAGS,
    )
    def end_session(self, request: Request, session_id: str) -> Answer:
        """End it; doing so again changes nothing."""
        if not is_id(session_id, prefix="lgn"):
            raise NotFound("There is no such session.")
        sessions.end(self.db, request.asker, session_id=session_id)
        self.known_keys.forget(request.org_id)
        return Answer(204)


def _shown(status: int, signed_in: SignedIn) -> Answer:
    session = signed_in.session
    body = {
        "session_token": session.token,
        "session": {"id": session.id, "expires_at": rfc3339(session.expires_at)},
        "member": signed_in.member,
        "organization": signed_in.organization,
    }
    return Answer(status, body, {"Cache-Control": "no-store"})
