"""TypeIDs: a prefix that names the kind, and a UUIDv7 that sorts by time (https://github.com/jetify-com/typeid)."""

import re

from typeid import TypeID

SUFFIX_PATTERN = "[0-7][0-9a-hjkmnp-tv-z]{25}"
_SUFFIX = re.compile(SUFFIX_PATTERN + r"\Z")


def new_id(prefix: str) -> str:
    """Return a fresh id such as ``job_01jx…``; ids made later sort later, to the millisecond."""
    return str(TypeID(prefix=prefix))


def is_id(value: object, *, prefix: str) -> bool:
    """Tell whether ``value`` is a well-formed id of the kind ``prefix`` names."""
    if not isinstance(value, str) or not value.startswith(f"{prefix}_"):
        return False
    return _SUFFIX.fullmatch(value[len(prefix) + 1 :]) is not None
