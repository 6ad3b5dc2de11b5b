"""If-Match where the change is made: what was compared with it before may have changed since."""

from collections.abc import Callable, Mapping
from typing import Any

from shared.http import Request, Schema
from shared.http_conditions import require_match
from shared.http_schemas import shape_of

Check = Callable[[Mapping[str, Any]], None]


def unchecked(_current: Mapping[str, Any]) -> None:
    """Let whatever is there be changed."""


def as_seen(request: Request, schema: type[Schema], **unknown: Any) -> Check:
    """Return what refuses the current state of a resource, locked, if it is not as the client saw it (If-Match).

    Args:
        request: the client's.
        schema: of what its GET answers.
        unknown: fields of that which cannot be known inside of a transaction, as they may be shown.
    """
    if "If-Match" not in request.headers:
        return unchecked
    return lambda current: require_match(request, {**current, **unknown}, shape_of(schema))
