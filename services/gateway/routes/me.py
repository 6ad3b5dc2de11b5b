"""Routes of a person's own: profile, what new sessions begin with, and the dashboard."""

from collections.abc import Mapping
from typing import Any

from services.gateway import profiles
from services.gateway.authentication import api_key
from services.gateway.permissions import ACCOUNT
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.jobs import JOB_ENDS
from services.gateway.schemas.me import DashboardSchema, DefaultsSchema, MeSchema, ProfileRequest
from shared.http import Answer, Request, route
from shared.problems import Forbidden, NotFound, Unavailable

_TAGS = ("people",)
_NEWEST_JOBS = 50
# Products and sessions of staging have no service yet; their places in the answers are kept for clients.
_PRODUCT_COUNT = 0


class MeRoutes(Wiring):
    """Who asks."""

    @route(
        "GET",
        "/v1/me",
        auth=api_key,
        answers={200: MeSchema},
        problems=(Forbidden,),
        summary="Who you are, and what to do next",
        tags=_TAGS,
    )
    def me(self, request: Request) -> Answer:
        """Return who asks."""
        return Answer(200, self._me(request))

    @route(
        "PATCH",
        "/v1/me",
        auth=api_key,
        needs=ACCOUNT,
        body=ProfileRequest,
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
        profiles.change(self.db, request.asker, **request.body)
        return Answer(200, self._me(request))

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
        return Answer(200, profiles.profile(self.db, request.asker)["defaults"])

    @route(
        "PUT",
        "/v1/me/defaults",
        auth=api_key,
        needs=ACCOUNT,
        body=DefaultsSchema,
        answers={200: DefaultsSchema},
        problems=(Forbidden,),
        summary="Choose what your new sessions begin with",
        tags=_TAGS,
    )
    def change_defaults(self, request: Request) -> Answer:
        """Set the asker's defaults."""
        profiles.set_defaults(self.db, request.asker, request.body)
        return Answer(200, request.body)

    @route(
        "GET",
        "/v1/dashboard",
        auth=api_key,
        answers={200: DashboardSchema},
        problems=(Forbidden,),
        summary="Everything the first page shows, in one call",
        description="`jobs` are those of the newest 50 that have not ended.",
        tags=_TAGS,
    )
    def dashboard(self, request: Request) -> Answer:
        """Gather what the first page shows."""
        profile = profiles.profile(self.db, request.asker)
        newest = self._newest_jobs(request, limit=_NEWEST_JOBS)
        active = [links_now(self).job(job) for job in newest if job["status"] not in JOB_ENDS]
        return Answer(
            200,
            {
                "organization": profile["organization"],
                "onboarding_step": profiles.onboarding_step(profile, has_jobs=bool(newest)),
                "products": {"total": _PRODUCT_COUNT},
                "sessions": [],
                "jobs": {"active": len(active), "data": active},
                "credits": self.credits.balance(org_id=request.org_id),
            },
        )

    def _me(self, request: Request) -> dict[str, Any]:
        profile = profiles.profile(self.db, request.asker)
        try:
            step = profiles.onboarding_step(profile, has_jobs=bool(self._newest_jobs(request, limit=1)))
        except Unavailable:  # who one is can be told all the same
            step = None
        return {**profile, "onboarding_step": step, "product_count": _PRODUCT_COUNT}

    def _newest_jobs(self, request: Request, *, limit: int) -> list[Mapping[str, Any]]:
        page = self.generation.jobs(**request.owner, workflow=None, status=None, limit=limit, after=None)
        return list(page["data"])
