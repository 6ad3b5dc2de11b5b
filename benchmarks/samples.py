"""The events the benchmarks move: of a real type and of the usual size, with ids both sides can work out."""

from collections.abc import Iterator, Sequence

import msgspec

from shared import events
from shared.events import CreditCaptured, Meta

ORGANIZATION = "org_01kap000000000000000000000"


def captured(run: str, *, count: int, org_ids: Sequence[str] = (ORGANIZATION,)) -> list[CreditCaptured]:
    """Return ``count`` events whose ids and lines are `event_id` and `line_id` of their number.

    The organizations take turns.
    """
    return [
        CreditCaptured(
            meta=Meta(
                id=event_id(run, number), time="2026-01-01T00:00:00.000000Z", correlation_id="req_01kap0000000000000"
            ),
            reservation_id=f"res_{number:026d}",
            job_id=f"job_{number:026d}",
            org_id=org_ids[number % len(org_ids)],
            line_id=line_id(number),
            amount=10,
            unit="credit",
        )
        for number in range(count)
    ]


def bodies(run: str, *, count: int) -> Iterator[bytes]:
    """Return the same events as they travel."""
    return (events.encode(item) for item in captured(run, count=count))


def event_id(run: str, number: int) -> str:
    """Return the id of event ``number`` of a run."""
    return f"evt_{run}_{number:020d}"


def line_id(number: int) -> str:
    """Return the id of the line event ``number`` is about."""
    return f"gen_{number:026d}"


def stamped(item: CreditCaptured, at_ns: int, *, padding: int = 0) -> CreditCaptured:
    """Return the event with a monotonic time in nanoseconds where its reservation's id stood, and so much larger."""
    return msgspec.structs.replace(item, reservation_id=str(at_ns), line_id=item.line_id + "x" * padding)
