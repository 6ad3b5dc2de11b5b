"""What an event tells of headshots, as one row: which is the same whenever, and however often, the event is read. Pure.

Two events about the same thing have the same row; of these the later one counts, in whatever order they come. The later
one is what its source has numbered higher: the clocks of two processes are no measure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.events import BehaviourTracked, GenerationCompleted, GenerationFailed, GenerationStarted, ImageFavorited

TYPES: Final = (GenerationStarted, GenerationCompleted, GenerationFailed, ImageFavorited, BehaviourTracked)
_WORKFLOW: Final = "headshot"
# Refused for want of credits before they were begun: nobody's failure.
_NOT_BEGUN: Final = ("insufficient_credits", "quota_exceeded", "daily_cap_reached", "key_cap_reached")
_BEHAVIOURS: Final = {
    "style_selected": "selected",
    "headshot_downloaded": "downloaded",
    "user_shared": "shared",
    "history_viewed": "viewed",
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that happened, at the event's own time; ``id`` is of what it happened to."""

    id: str
    event_id: str
    at: datetime
    kind: str
    org_id: str
    user_id: str | None
    livemode: bool
    style: str | None
    job_id: str | None = None
    duration_ms: int | None = None
    amount: int | None = None
    reason: str | None = None
    sequence: str = ""

    @property
    def order(self) -> tuple[str, datetime, str]:
        """By which the later of two facts is known; numbers of events are of one length."""
        return self.sequence, self.at, self.event_id


def fact(event: Mapping[str, Any]) -> Fact | None:
    """Return what a public CloudEvent tells of headshots; None where that is nothing."""
    read, data = _READ.get(event["type"]), event["data"]
    if read is None or data.get("workflow", _WORKFLOW) != _WORKFLOW:
        return None
    return read(event, data)


def _behaviour(event: Mapping[str, Any], data: Mapping[str, Any]) -> Fact:
    return _made(event, f"behaviour:{data['behaviour_id']}", _BEHAVIOURS.get(data["name"], data["name"]))


def _start(event: Mapping[str, Any], data: Mapping[str, Any]) -> Fact:
    return _made(event, f"started:{data['generation_id']}", "started")


def _success(event: Mapping[str, Any], data: Mapping[str, Any]) -> Fact:
    what = {"duration_ms": data["duration_ms"], "amount": data["amount"]}
    return _made(event, f"ended:{data['generation_id']}", "succeeded", **what)


def _favorite(event: Mapping[str, Any], data: Mapping[str, Any]) -> Fact:
    return _made(event, f"favorite:{data['image_id']}", "favorite" if data["favorite"] else "no_favorite")


def _failure(event: Mapping[str, Any], data: Mapping[str, Any]) -> Fact | None:
    reason = data["reason"]
    if reason in _NOT_BEGUN:
        return None
    kind = "cancelled" if reason.startswith("cancelled") else "failed"
    return _made(event, f"ended:{data['generation_id']}", kind, reason=reason)


def _made(event: Mapping[str, Any], fact_id: str, kind: str, **more: Any) -> Fact:
    data = event["data"]
    return Fact(
        id=fact_id,
        event_id=event["id"],
        at=datetime.fromisoformat(event["time"]),
        kind=kind,
        org_id=data["org_id"],
        user_id=data.get("user_id"),
        livemode=data.get("livemode", True),
        style=data.get("style"),
        job_id=data.get("job_id"),
        sequence=event.get("sequence", ""),
        **more,
    )


_READ: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Fact | None]]] = {
    GenerationStarted.__name__: _start,
    GenerationCompleted.__name__: _success,
    GenerationFailed.__name__: _failure,
    ImageFavorited.__name__: _favorite,
    BehaviourTracked.__name__: _behaviour,
}
