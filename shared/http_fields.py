"""Kinds of values at the HTTP border that are read more strictly than marshmallow would; nothing here knows a route."""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError, fields

from shared import times
from shared.ids import SUFFIX_PATTERN, is_id

# RFC 3339, section 5.6, with a date alone as well; Python's own reading of ISO 8601 takes far more than that.
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d))?",
    re.ASCII,
)
_MORE_THAN_MICROSECONDS = re.compile(r"(\.\d{6})\d+")
# Letters and symbols by their category, yet nothing is seen of them: Hangul fillers, the Braille blank.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_MOMENT_HELP = "give a date (2026-11-30) or a time with its offset (2026-11-30T08:00:00Z; write + as %2B in an address)"


class Flag(fields.Boolean):
    """``true`` or ``false`` of JSON, and nothing that merely reads like it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        del attr, data
        if not isinstance(value, bool):
            raise ValidationError("Not a valid boolean.")
        return value


class Moment(fields.Field[datetime]):
    """A time, or a date (of UTC); the value read is a datetime in UTC.

    A date stands for its first moment, or with ``whole_day`` for the first after it: the end of a period that has
    the day as its last.
    """

    def __init__(self, *, whole_day: bool = False, **options: Any) -> None:
        self.whole_day = whole_day
        described = {"type": "string", "examples": ["2026-11-30", "2026-11-30T08:00:00Z"]}
        super().__init__(**{**options, "metadata": {**described, **options.get("metadata", {})}})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> datetime:
        del attr, data
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            raise ValidationError(_MOMENT_HELP)
        try:
            read = datetime.fromisoformat(_MORE_THAN_MICROSECONDS.sub(r"\1", value.upper()))
            if read.tzinfo:
                return read.astimezone(UTC)
            return read.replace(tzinfo=UTC) + timedelta(days=1 if self.whole_day else 0)
        except (ValueError, OverflowError) as error:  # the 31st of November, or a time outside of our years
            raise ValidationError(_MOMENT_HELP) from error


def rfc3339(moment: datetime) -> str:
    """Return ``moment`` as it goes into JSON: in UTC, to the microsecond, so that texts sort as times do."""
    return times.rfc3339(moment, precision="microseconds")


def id_of(prefix: str, what: str) -> Callable[[str], None]:
    """Return the validator of an id that begins with ``prefix``; ``what`` is what a person calls it."""

    def check(value: str) -> None:
        if not is_id(value, prefix=prefix):
            raise ValidationError(f"this is not the id of {what} ({prefix}_…)")

    check.pattern = f"^{prefix}_{SUFFIX_PATTERN}$"  # type: ignore[attr-defined]  # for the document
    return check


def is_plain(text: str) -> bool:
    """Tell whether a line of text has only characters that are seen, and spaces: wide and unbroken ones as well."""
    return all(one.isprintable() or unicodedata.category(one) == "Zs" for one in text)


def said(text: str) -> None:
    """Refuse a line of text with nothing to see in it, or with what would change how others see it.

    Raises:
        ValidationError: it has only white space, or line breaks, control or invisible characters.
    """
    if not is_plain(text):
        raise ValidationError("leave out line breaks, control characters and characters that cannot be seen")
    if all(unicodedata.category(character)[0] in "ZM" or character in _BLANK for character in text):
        raise ValidationError("write something here")
