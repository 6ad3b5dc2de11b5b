"""The story of an organization in sentences, made of the events in its log. Pure: names and times are given.

A type that has no sentence here is not told, and `NOT_TOLD` says why. Several of the same in a row, by the same person,
are one sentence.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from services.notifications.letters import clock, single_line
from services.notifications.notices import label

TOGETHER: Final = timedelta(minutes=10)
_TEXT_MAX: Final = 100
_PHOTOS: Final = {
    "room": "room photo",
    "product": "product photo",
    "inspiration": "inspiration",
    "face": "portrait",
    "profile": "profile photo",
}
_IN_ORDER: Final = (
    *(f"uploaded {noun}" for noun in (*_PHOTOS.values(), "photo")),
    *("added product", "added view", "renewed view", "changed product", "deleted product", "deleted image"),
)
_DEEDS_IN_SESSIONS: Final = {
    "created": "began",
    "selected": "chose the empty room of",
    "locked": "locked the empty room of",
    "deleted": "deleted",
}
# Of these a job may have hundreds, with those of other jobs in between: the newest stands for all.
ONCE_A_JOB: Final = ("GenerationFailed",)
_ENDS: Final = {"failed": "failed", "expired": "took too long", "cancelled": "was cancelled", "rejected": "was refused"}


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One event of the log as a story needs it: its number, its type, its time and its public data.

    It stands for ``count`` events, of which it is the newest: see `ONCE_A_JOB`.
    """

    sequence: int
    type: str
    time: datetime
    data: Mapping[str, Any]
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Line:
    """One sentence: ``sequence`` is the number of the oldest of its ``count`` events, ``time`` that of the newest."""

    sequence: int
    type: str
    time: datetime
    count: int
    text: str
    actor_id: str | None
    job_id: str | None
    session_id: str | None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one event says: who, what, and what it can be told together with, which is counted by ``thing``."""

    say: Callable[[Counter[str]], str]
    actor_id: str | None = None
    together: tuple[Any, ...] | None = None
    thing: str = ""


Names = Mapping[str, str]
_Teller = Callable[[Mapping[str, Any], Names], _Part]


def people_in(data: Mapping[str, Any]) -> set[str]:
    """Return the ids of those whose names a sentence may need."""
    return {data[field] for field in ("user_id", "changed_by", "removed_by", "invited_by") if data.get(field)}


def tell(happened: Sequence[Happened], *, names: Names, zone: Any) -> list[Line]:
    """Return the sentences for events, in their order, which is the newest first.

    Args:
        happened: events of one log.
        names: of people, by id.
        zone: the reader's, for the time in each sentence.
    """
    lines: list[Line] = []
    gathered: list[tuple[Happened, _Part]] = []
    parts = [_TELLERS[item.type](item.data, names) for item in happened]
    for place, (item, part) in enumerate(zip(happened, parts, strict=True)):
        gathered.append((item, part))
        following = place + 1
        if following < len(happened) and _belongs(part, parts[following], item, happened[following]):
            continue
        lines.append(_line(gathered, zone=zone))
        gathered = []
    return lines


def _belongs(part: _Part, other: _Part, item: Happened, older: Happened) -> bool:
    return part.together is not None and part.together == other.together and item.time - older.time <= TOGETHER


def _line(gathered: Sequence[tuple[Happened, _Part]], *, zone: Any) -> Line:
    (newest, part), (oldest, _) = gathered[0], gathered[-1]
    counts: Counter[str] = Counter()
    for item, each in gathered:
        counts[each.thing] += item.count
    return Line(
        sequence=oldest.sequence,
        type=newest.type,
        time=newest.time,
        count=counts.total(),
        text=f"{part.say(counts)} at {clock(newest.time.astimezone(zone))}",
        actor_id=part.actor_id,
        job_id=newest.data.get("job_id"),
        session_id=newest.data.get("session_id"),
    )


def _who(user_id: str | None, names: Names) -> str:
    """Return a person's name at the beginning of a sentence."""
    if user_id is None:
        return "The API"
    if user_id.startswith("admin:"):
        return "An administrator"
    return single_line(names.get(user_id, "Somebody"), most=_TEXT_MAX)


def _were(counts: Counter[str]) -> str:
    return "was" if counts.total() == 1 else "were"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _and(several: Sequence[str]) -> str:
    return " and ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)


def _did(data: Mapping[str, Any], names: Names, *, deed: str, noun: str, together: str) -> _Part:
    """Tell what somebody did to so many; of one who did it and other things in turns, all that in one sentence."""
    user_id = data["user_id"]

    def say(counts: Counter[str]) -> str:
        done: dict[str, list[str]] = {}
        for thing in sorted(counts, key=_IN_ORDER.index):
            verb, _, what = thing.partition(" ")
            done.setdefault(verb, []).append(_counted(counts[thing], what))
        return f"{_who(user_id, names)} {_and([f'{verb} {_and(what)}' for verb, what in done.items()])}"

    return _Part(say=say, actor_id=user_id, together=(together, user_id), thing=f"{deed} {noun}")


def _uploaded(data: Mapping[str, Any], names: Names) -> _Part:
    noun = _PHOTOS.get(data["purpose"], "photo")
    # Products come with their photos and views: photo, product, view, photo, product, view …
    together = "products" if noun == _PHOTOS["product"] else noun
    return _did(data, names, deed="uploaded", noun=noun, together=together)


def _product_changed(data: Mapping[str, Any], names: Names) -> _Part:
    if data["change"] == "created":
        return _did(data, names, deed="added", noun="product", together="products")
    return _did(data, names, deed="changed", noun="product", together="changes")


def _product_deleted(data: Mapping[str, Any], names: Names) -> _Part:
    return _did(data, names, deed="deleted", noun="product", together="deletions")


def _image_deleted(data: Mapping[str, Any], names: Names) -> _Part:
    return _did(data, names, deed="deleted", noun="image", together="deletions of images")


def _view_added(data: Mapping[str, Any], names: Names) -> _Part:
    if data["image_id"]:
        return _did(data, names, deed="renewed", noun="view", together="renewals")
    return _did(data, names, deed="added", noun="view", together="products")


def _session_changed(data: Mapping[str, Any], names: Names) -> _Part:
    name = data["session_name"]
    called = f"the staging session '{single_line(name, most=_TEXT_MAX)}'" if name else "a staging session"
    deed = _DEEDS_IN_SESSIONS.get(data["change"], "changed")
    text = f"{_who(data['user_id'], names)} {deed} {called}"
    # Of several changes in a row, only the last of a kind is of interest.
    together = ("session", data["session_id"], data["change"], data["user_id"])
    return _Part(say=lambda _counts: text, actor_id=data["user_id"], together=together)


def _source_deleted(data: Mapping[str, Any], _names: Names) -> _Part:
    why = "on request" if data["reason"] == "requested" else "as their time was over"
    return _Part(
        say=lambda counts: f"{_counted(counts.total(), 'upload')} {_were(counts)} deleted {why}",
        together=("deleted", data["reason"]),
    )


def _accepted(data: Mapping[str, Any], names: Names) -> _Part:
    asked = _counted(data["generations"], "image")
    what = label(data["workflow"], None).lower()
    return _said(f"{_who(data['user_id'], names)} asked for {asked} ({what})", data["user_id"])


def _paused(data: Mapping[str, Any], _names: Names) -> _Part:
    return _said(f"{label(data['workflow'], None)} paused, with {_counted(data['waiting'], 'image')} to go")


def _stalled(data: Mapping[str, Any], _names: Names) -> _Part:
    return _said(f"{label(data['workflow'], None)} came to a standstill")


def _failed(data: Mapping[str, Any], _names: Names) -> _Part:
    what, reason = label(data["workflow"], None).lower(), data["reason"].replace("_", " ")

    def say(counts: Counter[str]) -> str:
        images = f"{_counted(counts.total(), 'image')} ({what}) {_were(counts)}"
        if data["reason"].startswith("cancelled"):
            return f"{images} cancelled"
        return f"{images} not generated ({'last: ' if counts.total() > 1 else ''}{reason})"

    return _Part(say=say)


def _finished(data: Mapping[str, Any], _names: Names) -> _Part:
    called = label(data["workflow"], data["session_name"], session_id=data.get("session_id"))
    what = single_line(called, most=_TEXT_MAX)
    total = data["succeeded"] + data["failed"]
    if data["status"] in _ENDS:
        return _said(f"{what} {_ENDS[data['status']]}, with {data['succeeded']} of {total} images generated")
    return _said(f"{what} was completed, with {data['succeeded']} of {total} images generated")


def _invited(data: Mapping[str, Any], names: Names) -> _Part:
    whom = single_line(names.get(data["user_id"], "somebody"), most=_TEXT_MAX)
    inviter = single_line(data["inviter_name"], most=_TEXT_MAX)
    return _said(f"{inviter} invited {whom} as {data['role']}", data["invited_by"])


def _joined(data: Mapping[str, Any], _names: Names) -> _Part:
    return _said(f"{single_line(data['name'], most=_TEXT_MAX)} joined as {data['role']}", data["user_id"])


def _role_changed(data: Mapping[str, Any], names: Names) -> _Part:
    whom = single_line(names.get(data["user_id"], "somebody"), most=_TEXT_MAX)
    return _said(f"{_who(data['changed_by'], names)} made {whom} {data['role']}", data["changed_by"])


def _removed(data: Mapping[str, Any], names: Names) -> _Part:
    whom = single_line(names.get(data["user_id"], "somebody"), most=_TEXT_MAX)
    return _said(f"{_who(data['removed_by'], names)} removed {whom}", data["removed_by"])


def _plan_changed(data: Mapping[str, Any], names: Names) -> _Part:
    who = _who(data["changed_by"], names)
    return _said(f"{who} changed the plan from {data['previous_plan']} to {data['plan']}", data["changed_by"])


def _credits_moved(verb: str) -> _Teller:
    def told(data: Mapping[str, Any], _names: Names) -> _Part:
        noun = "credit" if data["unit"] == "credits" else "generation"
        were = "was" if abs(data["amount"]) == 1 else "were"
        taken_back = data["amount"] < 0
        return _said(f"{_counted(abs(data['amount']), noun)} {were} {'taken back' if taken_back else verb}")

    return told


def _said(text: str, actor_id: str | None = None) -> _Part:
    return _Part(say=lambda _counts: text, actor_id=actor_id)


_TELLERS: Final[Mapping[str, _Teller]] = {
    "OrganizationCreated": lambda _data, _names: _said("The organization was created"),
    "MemberInvited": _invited,
    "MemberJoined": _joined,
    "MemberChanged": _role_changed,
    "MemberRemoved": _removed,
    "PlanChanged": _plan_changed,
    "CreditsGranted": _credits_moved("added"),
    "CreditsAdjusted": _credits_moved("added"),
    "CreditsExpired": _credits_moved("lost, as their time was over"),
    "QuotaThresholdReached": lambda data, _names: _said(f"{data['percent']} % of the month's generations were used up"),
    "JobAccepted": _accepted,
    "JobPaused": _paused,
    "JobResumed": lambda data, _names: _said(f"{label(data['workflow'], None)} went on"),
    "JobStalled": _stalled,
    "GenerationFailed": _failed,
    "JobFinished": _finished,
    "AssetUploaded": _uploaded,
    "SourceDeleted": _source_deleted,
    "ProductChanged": _product_changed,
    "ImageDeleted": _image_deleted,
    "ProductDeleted": _product_deleted,
    "ProductViewAdded": _view_added,
    "StagingSessionChanged": _session_changed,
    "WebhookEndpointDisabled": lambda data, _names: _said(f"The webhook endpoint {data['endpoint_id']} was disabled"),
}
TOLD_TYPES: Final = tuple(_TELLERS)
# Changes of a staging session that have no sentence: the job they name has its own.
STEPS_NOT_TOLD: Final = ("job_accepted", "job_ended")
# Of what is in the log, why it has no sentence.
NOT_TOLD: Final[Mapping[str, str]] = {
    "CreditReserved": "a step of a job, whose beginning is told; GET /v1/credits/entries has every movement",
    "CreditCaptured": "as above, one for each image",
    "RefundIssued": "as above; an administrator's has its reason there",
    "GenerationStarted": "one for each image of a job, whose beginning and end are told",
    "GenerationCompleted": "as above; the job's end has their number",
    "ImageFavorited": "somebody's own mark; GET /v1/images?favorite=true has what bears it",
    "BehaviourTracked": "what somebody looked at, counted by day for administrators",
    "EmailSent": "nothing happened but that somebody was told of something",
}
