"""Text from outside as a database keeps it: JSON may hold characters that PostgreSQL, or UTF-8, has no room for.

One of them in a vendor's answer would let the recording of it fail for ever, and the result be lost.
"""

from typing import Any


def storable(found: Any) -> Any:
    """Return a JSON value whose texts hold neither NUL nor halves of a character; these are replaced."""
    if isinstance(found, str):
        return found.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(found, list):
        return [storable(each) for each in found]
    if isinstance(found, dict):
        return {storable(name): storable(value) for name, value in found.items()}
    return found
