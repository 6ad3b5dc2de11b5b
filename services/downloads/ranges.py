"""Which bytes of a file a request asks for: RFC 9110, sections 13 and 14, for one range. Pure."""

import re
from dataclasses import dataclass

# More digits than any file has would only make int() slow; int() refuses beyond 4300 anyway.
_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?"[^"]*"')


class NotSatisfiable(Exception):
    """The range begins behind the file's end."""


@dataclass(frozen=True)
class Span:
    """The bytes from ``start`` to before ``end`` of a file of ``total`` bytes."""

    start: int
    end: int
    total: int

    @property
    def content_range(self) -> str:
        """The value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{self.total}"


def requested(*, range_header: str | None, if_range: str | None, etag: str, total: int) -> Span | None:
    """Return the span a request wants, or None for the file as a whole.

    A Range that is malformed, of another unit or of several parts is ignored, as the standard allows; so is one
    whose If-Range does not name this very file (``etag``, with its quotes; a date never does).

    Raises:
        NotSatisfiable: the range is well-formed and holds no byte of the file.
    """
    asked = _ONE_RANGE.fullmatch(range_header or "")
    if asked is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = asked.groups()
    if not first:
        return _suffix(last, total=total) if last else None
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= total:
        raise NotSatisfiable
    return Span(start, min(int(last) + 1, total) if last else total, total)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether the client holds this very file already."""
    if if_none_match is None:
        return False
    held = {tag.removeprefix("W/") for tag in _TAG.findall(if_none_match)}
    return etag in held or if_none_match.strip() == "*"


def _suffix(last: str, *, total: int) -> Span:
    """Return the last bytes of the file, however many there are up to the number asked for."""
    length = min(int(last), total)
    if length == 0:
        raise NotSatisfiable
    return Span(total - length, total, total)
