"""What somebody wants to be told, by mail and in the inbox: the defaults of the product, and what a change may say.

Pure, but for the two functions at the end that read rows.
"""

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import Session

from services.notifications.models import Preference
from shared.problems import BadRequest

REALTIME: Final = "realtime"
DAILY_DIGEST: Final = "daily_digest"
FREQUENCIES: Final = (REALTIME, DAILY_DIGEST)
DEFAULTS: Final[Mapping[str, Any]] = {
    "email": {
        "generation_completed": True,
        "generation_failed": True,
        "weekly_usage_summary": False,
        "tips_and_best_practices": False,
    },
    "browser": {"generation_completed": True, "low_quota_warning": True},
    "frequency": REALTIME,
    "timezone": "UTC",
    "quiet_hours": None,
}
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_TIMEZONE_MAX: Final = 64


def with_defaults(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return all preferences: what was chosen, and the defaults for the rest."""
    return {
        name: {**default, **chosen.get(name, {})} if isinstance(default, dict) else chosen.get(name, default)
        for name, default in copy.deepcopy(dict(DEFAULTS)).items()
    }


def changed(known: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``known`` with what ``change`` says, which may leave anything out.

    Raises:
        BadRequest: it says something else than there is to choose; ``errors`` points at it.
    """
    errors = list(_errors(change))
    if errors:
        raise BadRequest("These are no preferences as they can be chosen.", errors=errors)
    wanted = copy.deepcopy(dict(known))
    for name, value in change.items():
        part = isinstance(DEFAULTS[name], dict) and isinstance(value, Mapping)
        wanted[name] = {**wanted[name], **value} if part else value
    return wanted


def zone(timezone: str) -> ZoneInfo:
    """Return the zone of somebody's times; UTC where there is none of that name any more."""
    try:
        return ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return ZoneInfo("UTC")


def quiet_until(wanted: Mapping[str, Any], *, now: datetime) -> datetime | None:
    """Return when somebody's quiet hours end, if these are some; those of their own day, which may go over midnight."""
    hours = wanted["quiet_hours"]
    if hours is None:
        return None
    begin, end = time.fromisoformat(hours["from"]), time.fromisoformat(hours["until"])
    local = now.astimezone(zone(wanted["timezone"]))
    moment = local.timetz().replace(tzinfo=None)
    if begin <= end:
        quiet, over_midnight = begin <= moment < end, False
    else:
        quiet, over_midnight = moment >= begin or moment < end, moment >= begin
    if not quiet:
        return None
    day = local.date() + timedelta(days=1) if over_midnight else local.date()
    return datetime.combine(day, end, tzinfo=local.tzinfo).astimezone(UTC)


def of(session: Session, readers: Collection[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the preferences of those of these, by organization and user, who have chosen some."""
    asked = sa.tuple_(Preference.org_id, Preference.user_id).in_(sorted(readers))
    rows = session.scalars(sa.select(Preference).where(asked))
    return {(row.org_id, row.user_id): with_defaults(row.chosen) for row in rows}


def one(session: Session, *, org_id: str, user_id: str) -> dict[str, Any]:
    """Return somebody's preferences, as `with_defaults` has them, and their ``version``, 0 before the first choice."""
    row = session.get(Preference, (org_id, user_id))
    return {**with_defaults(row.chosen if row else {}), "version": row.version if row else 0}


def _errors(change: Mapping[str, Any]) -> Sequence[dict[str, str]]:
    errors = []
    for name, value in change.items():
        default = DEFAULTS.get(name)
        if name not in DEFAULTS:
            errors.append(_error(f"/{name}", "unknown_field", "there is no such preference"))
        elif name == "quiet_hours" and not _are_hours(value):
            errors.append(_error("/quiet_hours", "invalid", "give from and until, each such as 22:00, or null"))
        elif isinstance(default, dict):
            errors += _errors_of_channel(name, value, default)
        elif name == "frequency" and value not in FREQUENCIES:
            errors.append(_error("/frequency", "invalid", f"choose one of {', '.join(FREQUENCIES)}"))
        elif name == "timezone" and not _is_zone(value):
            errors.append(_error("/timezone", "invalid", "name a time zone such as Europe/Berlin"))
    return errors


def _errors_of_channel(channel: str, value: object, default: Mapping[str, bool]) -> list[dict[str, str]]:
    if not isinstance(value, Mapping):
        return [_error(f"/{channel}", "invalid", "give an object of kinds, each true or false")]
    return [
        _error(
            f"/{channel}/{kind}", *(("invalid", "give true or false") if kind in default else ("unknown_field", "?"))
        )
        for kind, chosen in value.items()
        if kind not in default or not isinstance(chosen, bool)
    ]


def _are_hours(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, Mapping) or value.keys() != {"from", "until"}:
        return False
    return all(isinstance(each, str) and _TIME.fullmatch(each) for each in value.values())


def _is_zone(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _TIMEZONE_MAX:
        return False
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        return False
    return True


def _error(pointer: str, code: str, detail: str) -> dict[str, str]:
    return {"pointer": pointer, "code": code, "detail": detail}
