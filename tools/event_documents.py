"""The stored document of every event type, and what may not change in it once somebody reads that event.

A document is ``{type, source, subject, public, schema, sample, earlier_samples}``: ``public`` names the
fields that may leave the system, ``schema`` describes ``data``, ``sample`` is a whole event. When a type grows, its
old sample stays under ``earlier_samples``: events like it lie in queues and logs, and must stay readable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from shared import events
from shared.event_samples import sample_of
from shared.events import Event

Document = Mapping[str, Any]

_DESCRIPTIVE = {"description", "title", "default"}


def document_of(cls: type[Event], *, stored: Document | None) -> dict[str, Any]:
    """Return the document of a type as it is now; ``stored`` is the one of last time."""
    sample = sample_of(cls)
    earlier = list(stored["earlier_samples"]) if stored else []
    if stored and stored["sample"] != sample:
        earlier.append(stored["sample"])
    public = list(events.public_fields(cls)) if cls.PUBLIC else []
    return {
        "type": cls.__name__,
        "source": cls.SOURCE,
        "subject": cls.SUBJECT,
        "public": public,
        "schema": events.schema_of(cls),
        "sample": sample,
        "earlier_samples": earlier,
    }


def breaches(stored: Document, now: Document) -> list[str]:
    """Return what the present schema of a type breaks for those who know the stored one, in words."""
    found = [] if stored["source"] == now["source"] else [f"it moved from {stored['source']} to {now['source']}"]
    was, now_is = stored["schema"], now["schema"]
    found += _breaches_of(was, now_is, "")
    for name, definition in was.get("$defs", {}).items():
        if name in now_is.get("$defs", {}):
            found += _breaches_of(definition, now_is["$defs"][name], f"{name}.")
    return [f"{stored['type']}: {breach}" for breach in found]


def _breaches_of(was: Document, now_is: Document, where: str) -> Iterator[str]:
    for name, part in was["properties"].items():
        if name not in now_is["properties"]:
            yield f"{where}{name} was removed"
        elif _typing(part) != _typing(now_is["properties"][name]):
            yield f"{where}{name} has another type"
    for name in set(was.get("required", [])) - set(now_is.get("required", [])):
        if name in now_is["properties"]:
            yield f"{where}{name} is no longer always there"
    for name in sorted(set(now_is.get("required", [])) - set(was["properties"])):
        yield f"{where}{name} is new and has no default, so events of before cannot be read"


def _typing(part: Document) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in _DESCRIPTIVE}
