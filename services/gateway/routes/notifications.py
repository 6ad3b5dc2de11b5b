"""Routes of what people are told: the inbox, their choices, the way out of mails, and the tips of administrators."""

from html import escape
from typing import Any

from services.gateway.authentication import admin_key, api_key
from services.gateway.conditions import changed_as_seen
from services.gateway.idempotency import IdempotencyKeyReused, RequestInProgress, idempotent
from services.gateway.permissions import ACCOUNT
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.notifications import (
    MessagesQuery,
    MessagesSchema,
    PreferencesRequest,
    PreferencesSchema,
    ReadRequest,
    ReadSchema,
    TipRequest,
    TipSchema,
    UnsubscribeQuery,
)
from shared.http import Answer, Request, route
from shared.problems import Forbidden, UnsubscribeInvalid

_TAGS = ("notifications",)
_EMPTY = {"data": [], "has_more": False, "next_cursor": None, "unread": 0}
_PAGE = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_KINDS = {
    "generation_completed": "that a job is complete",
    "generation_failed": "that a job has failed",
    "weekly_usage_summary": "the figures of the week",
    "tips_and_best_practices": "tips",
    "low_quota_warning": "that the month's generations run low",
}


def _preferences(service: Any, request: Request) -> dict[str, Any]:
    found: dict[str, Any] = service.notifications.preferences(**_reader(request))
    return found


def _reader(request: Request) -> dict[str, Any]:
    """Return whose inbox and choices a request is about: those of the member, whom a key stands for too."""
    return {"org_id": request.org_id, "user_id": request.asker.user_id}


class NotificationRoutes(Wiring):
    """What people are told."""

    @route(
        "GET",
        "/v1/notifications",
        auth=api_key,
        query=MessagesQuery,
        answers={200: MessagesSchema},
        problems=(Forbidden,),
        summary="Your inbox, newest first",
        description="Nobody is told of what test keys have made: the inbox of one is empty.",
        tags=_TAGS,
    )
    def notifications_of_mine(self, request: Request) -> Answer:
        """Return a page of the asker's messages."""
        if not request.asker.livemode:
            return Answer(200, _EMPTY)
        return Answer(200, self.notifications.messages(**_reader(request), **request.query))

    @route(
        "POST",
        "/v1/notifications/read",
        auth=api_key,
        needs=ACCOUNT,
        body=ReadRequest,
        answers={200: ReadSchema},
        problems=(Forbidden,),
        summary="Mark messages of your inbox as read",
        tags=_TAGS,
    )
    def read_notifications(self, request: Request) -> Answer:
        """Mark them; what was read stays so."""
        return Answer(200, self.notifications.mark_read(**_reader(request), **request.body))

    @route(
        "GET",
        "/v1/me/preferences",
        auth=api_key,
        answers={200: PreferencesSchema},
        problems=(Forbidden,),
        summary="What you are told, and how",
        tags=_TAGS,
    )
    def preferences(self, request: Request) -> Answer:
        """Return the asker's choices."""
        return Answer(200, _preferences(self, request))

    @route(
        "PUT",
        "/v1/me/preferences",
        auth=api_key,
        needs=ACCOUNT,
        body=PreferencesRequest,
        current=(PreferencesSchema, _preferences),
        answers={200: PreferencesSchema},
        problems=(Forbidden,),
        summary="Choose what you are told, and how; what is left out stays as it is",
        tags=_TAGS,
    )
    def change_preferences(self, request: Request) -> Answer:
        """Change what is given."""
        asked = {**_reader(request), "change": request.body}
        changed = changed_as_seen(
            request,
            PreferencesSchema,
            lambda: _preferences(self, request),
            self.notifications.change_preferences,
            asked,
        )
        return Answer(200, changed)

    @route(
        "GET",
        "/v1/unsubscribe",
        auth=None,
        query=UnsubscribeQuery,
        answers={200: "text/html"},
        summary="The page that the link at the end of a mail leads to",
        description="It asks first: programs look at links in mails without anybody's having clicked on them.",
        tags=_TAGS,
    )
    def unsubscribe_page(self, request: Request) -> Answer:
        """Show the form."""
        token = escape(request.query["token"], quote=True)
        form = f'<form method="post" action="/v1/unsubscribe?token={token}"><button>Unsubscribe</button></form>'
        return _page("Do you want no more mails of this kind?", form)

    @route(
        "POST",
        "/v1/unsubscribe",
        auth=None,
        query=UnsubscribeQuery,
        answers={200: "text/html"},
        problems=(UnsubscribeInvalid,),
        summary="Switch off mails of the kind that a link came with, with one click (RFC 8058)",
        tags=_TAGS,
    )
    def unsubscribe(self, request: Request) -> Answer:
        """Switch them off; doing so again changes nothing."""
        kinds = self.notifications.unsubscribe(token=request.query["token"])["kinds"]
        told = ", ".join(_KINDS.get(kind, kind.replace("_", " ")) for kind in kinds)
        return _page("You are unsubscribed.", f"<p>You get no more mails that tell {escape(told)}.</p>")

    @route(
        "POST",
        "/v1/admin/tips",
        auth=admin_key,
        guard=idempotent(prefix="tip"),
        body=TipRequest,
        answers={202: TipSchema},
        problems=(Forbidden, RequestInProgress, IdempotencyKeyReused),
        summary="Send a tip by mail to everybody who wants some",
        tags=("admin",),
    )
    def send_tip(self, request: Request) -> Answer:
        """Send it; what is sent again reaches only those it has not reached."""
        sent = self.notifications.send_tips(tip_id=request.claim.resource_id, **request.body)
        return Answer(202, {"id": sent["tip_id"], "mails": sent["mails"]})


def _page(title: str, content: str) -> Answer:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    return Answer(200, f"{head}<h1>{escape(title)}</h1>{content}</html>".encode(), _PAGE)
