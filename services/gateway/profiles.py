"""What a person says of themselves: name, photo, what new sessions begin with; and how far they have come."""

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from services.gateway import members
from services.gateway.models import Member, Organization
from shared.database import Database
from shared.http import Principal
from shared.http_fields import rfc3339
from shared.http_schemas import error_at, refusal

ASPECT_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
MOST_VARIETY: Final = 10
DEFAULTS: Final[Mapping[str, Any]] = {"aspect_ratio": "1:1", "variety_level": 5}
ONBOARDING: Final = ("profile", "first_job", "done")
_PHOTO_PURPOSE = "profile"


def profile(db: Database, asker: Principal) -> dict[str, Any]:
    """Return who asks: the member as `members.as_dict` has it, the organization, terms and defaults."""
    with db.transaction(org_id=asker.org_id) as session:
        member, organization_name = session.execute(
            sa.select(Member, Organization.name)
            .join(Organization, Organization.id == Member.org_id)
            .where(Member.org_id == asker.org_id, Member.id == asker.user_id)
        ).one()
    return {
        **members.as_dict(member),
        "organization": {"id": member.org_id, "name": organization_name},
        "credential": asker.kind,
        "scopes": sorted(asker.scopes),
        "livemode": asker.livemode,
        "terms_accepted_at": rfc3339(member.terms_accepted_at) if member.terms_accepted_at else None,
        "terms_version": member.terms_version,
        "defaults": {**DEFAULTS, **member.defaults},
    }


def change(db: Database, asker: Principal, *, name: str | None = None, **photo: Any) -> None:
    """Change the asker's name, and the photo where ``photo_upload_id`` is given, also as None."""
    with db.transaction(org_id=asker.org_id) as session:
        member = session.scalars(
            sa.select(Member).where(Member.org_id == asker.org_id, Member.id == asker.user_id).with_for_update()
        ).one()
        before = (member.name, member.photo_asset_id)
        if name is not None:
            member.name = name
        if "photo_upload_id" in photo:
            member.photo_asset_id = photo["photo_upload_id"]
        if before != (member.name, member.photo_asset_id):
            member.version += 1


def set_defaults(db: Database, asker: Principal, defaults: Mapping[str, Any]) -> None:
    """Set what the asker's new sessions begin with."""
    with db.transaction(org_id=asker.org_id) as session:
        session.execute(
            sa.update(Member)
            .where(Member.org_id == asker.org_id, Member.id == asker.user_id)
            .values(defaults=dict(defaults), version=Member.version + 1)
        )


def require_photo(asset: Mapping[str, Any]) -> None:
    """Refuse an upload that was made for something else: it may be deleted at another time than a profile's photo.

    Raises:
        BadRequest: it was.
    """
    if asset["purpose"] != _PHOTO_PURPOSE:
        raise refusal([error_at("/photo_upload_id", "invalid", "upload the photo with purpose=profile")])


def onboarding_step(profile: Mapping[str, Any], *, has_jobs: bool) -> str:
    """Return what somebody has to do next: say their name, ask for a first job, or nothing more."""
    if not profile["name"]:
        return "profile"
    return "done" if has_jobs else "first_job"
