"""What passes on its way to those who follow the log: who wants which events, and how one is written out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.gateway.identity_provider import Claimed
from shared.events import EventRecorded
from shared.http import Principal


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A stream that is asked for, by whom, from where (None: from now on), and which events it has.

    ``chosen`` is ``{types, session_id, job_id}``. ``claimed`` is what a token of the identity provider says, where it
    is asked for with one.
    """

    asker: Principal
    org_id: str
    after: str | None
    chosen: Mapping[str, Any]
    claimed: Claimed | None = None

    def has(self, passing: "Passing") -> bool:
        """Tell whether an event is one of those."""
        types, session_id, job_id = (self.chosen[name] for name in ("types", "session_id", "job_id"))
        return (
            passing.livemode == self.asker.livemode
            and (types is None or passing.type in types)
            and (session_id is None or passing.session_id == session_id)
            and (job_id is None or passing.job_id == job_id)
        )


@dataclass(frozen=True, kw_only=True)
class Passing:
    """An event as it passes, written out once for all who get it; None where only the log has it."""

    sequence: int
    type: str
    frame: bytes | None
    livemode: bool
    job_id: str | None
    session_id: str | None
    at: float = field(default_factory=time.monotonic)


def frame(sequence: int | str, kind: str, data: object) -> bytes:
    """Return one server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(sequence).encode(), kind.encode(), msgspec.json.encode(data))


def passing_of(event: EventRecorded) -> Passing:
    """Return an event as it passes to all who listen."""
    data: Any = (event.event or {}).get("data", {})
    return Passing(
        sequence=event.orgsequence,
        type=event.type,
        frame=None if event.event is None else frame(event.orgsequence, event.type, event.event),
        livemode=data.get("livemode", True),
        job_id=event.job_id,
        session_id=event.session_id,
    )
