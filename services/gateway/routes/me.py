"""Routes of a person's own: profile, what new sessions begin with, and the dashboard."""

from collections.abc import Callable
from typing import Any, TypeVar

from services.gateway import profiles
from services.gateway.authentication import api_key
from services.gateway.conditions import as_seen
from services.gateway.permissions import ACCOUNT
from services.gateway.routes.wiring import Wiring
from services.gateway.schemas.me import DashboardSchema, DefaultsSchema, MeSchema, ProfileRequest
from shared.http import Alias, Answer, Request, route
from shared.problems import Forbidden, NotFound, Unavailable

T = TypeVar("T")
_TAGS = ("people",)
_ACTIVE_JOBS = 50
_SESSIONS = 20


def _me(service: Any, request: Request) -> dict[str, Any]:
    profile = profiles.profile(service.db, request.asker)
    step = _if_known(lambda: profiles.onboarding_step(profile, has_jobs=_has_jobs(service, request)))
    count = _if_known(lambda: service.catalog.product_count(**request.owner))
    return {**profile, "onboarding_step": step, "product_count": count}


def _if_known(ask: Callable[[], T]) -> T | None:
    """Return what another service says, or None while it does not answer: who one is can be told all the same."""
    try:
        return ask()
    except Unavailable:
        return None


def _defaults(service: Any, request: Request) -> dict[str, Any]:
    defaults: dict[str, Any] = profiles.profile(service.db, request.asker)["defaults"]
    return defaults


def _has_jobs(service: Any, request: Request) -> bool:
    return bool(service.generation.has_jobs(**request.owner))


class MeRoutes(Wiring):
    """Who asks."""

    @route(
        "GET",
        "/v1/me",
        aliases=(Alias("GET", "/api/settings"),),
        auth=api_key,
        answers={200: MeSchema},
        problems=(Forbidden,),
        summary="Who you are, and what to do next",
        tags=_TAGS,
    )
    def me(self, request: Request) -> Answer:
        """Return who asks."""
        return Answer(200, _me(self, request))

    @route(
        "PATCH",
        "/v1/me",
        aliases=(Alias("PATCH", "/api/settings"),),
        auth=api_key,
        needs=ACCOUNT,
        body=ProfileRequest,
        current=(MeSchema, _me),
        answers={200: MeSchema},
        problems=(Forbidden, NotFound),
        summary="Change your name or photo",
        tags=_TAGS,
    )
    def change_me(self, request: Request) -> Answer:
        """Change what is given."""
        photo = request.body.get("photo_upload_id")
        if photo:
            profiles.require_photo(self.catalog.asset(**request.owner, asset_id=photo))
        check = as_seen(request, MeSchema, onboarding_step=None, product_count=None)
        profiles.change(self.db, request.asker, check=check, **request.body)
        self.known_keys.forget(request.org_id)
        return Answer(200, _me(self, request))

    @route(
        "GET",
        "/v1/me/defaults",
        auth=api_key,
        answers={200: DefaultsSchema},
        problems=(Forbidden,),
        summary="What your new sessions begin with",
        tags=_TAGS,
    )
    def defaults(self, request: Request) -> Answer:
        """Return the asker's defaults."""
        return Answer(200, _defaults(self, request))

    @route(
        "PUT",
        "/v1/me/defaults",
        auth=api_key,
        needs=ACCOUNT,
        body=DefaultsSchema,
        current=(DefaultsSchema, _defaults),
        answers={200: DefaultsSchema},
        problems=(Forbidden,),
        summary="Choose what your new sessions begin with",
        tags=_TAGS,
    )
    def change_defaults(self, request: Request) -> Answer:
        """Set the asker's defaults."""
        profiles.set_defaults(self.db, request.asker, request.body, check=as_seen(request, DefaultsSchema))
        return Answer(200, request.body)

    @route(
        "GET",
        "/v1/dashboard",
        auth=api_key,
        answers={200: DashboardSchema},
        problems=(Forbidden,),
        summary="Everything the first page shows, in one call",
        description="`jobs` are the newest 50 that have not ended, without their generations; `sessions` the newest 20"
        " staging sessions, with what comes next in each, without their attempts.",
        tags=_TAGS,
    )
    def dashboard(self, request: Request) -> Answer:
        """Gather what the first page shows."""
        profile = profiles.profile(self.db, request.asker)
        active = self.generation.jobs(**request.owner, active=True, generations=0, limit=_ACTIVE_JOBS)["data"]
        return Answer(
            200,
            {
                "organization": profile["organization"],
                "onboarding_step": profiles.onboarding_step(profile, has_jobs=bool(active) or _has_jobs(self, request)),
                "products": {"total": self.catalog.product_count(**request.owner)},
                "sessions": self.generation.staging_sessions(**request.owner, attempts=0, limit=_SESSIONS)["data"],
                "jobs": {"active": len(active), "data": active},
                "credits": self.credits.balance(org_id=request.org_id),
            },
        )
