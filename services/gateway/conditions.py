"""If-Match where the change is made: what was compared with it before may have changed since."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shared.http import Request, Schema
from shared.http_conditions import require_match, tags_in
from shared.http_schemas import shape_of
from shared.problems import PreconditionFailed

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


def changed_as_seen(
    request: Request,
    schema: type[Schema],
    look: Callable[[], Mapping[str, Any]],
    change: Callable[..., Mapping[str, Any]],
    asked: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Return what another service made of a resource with a ``version``, if it is as the client saw it (If-Match).

    Args:
        request: the client's.
        schema: of what its GET answers.
        look: gives the resource as it is.
        change: the other service's method; with ``version`` it refuses to change any other version than that.
        asked: its arguments.

    Raises:
        PreconditionFailed: it is not as the client saw it; the problem has its state and tag.
    """
    if "*" in tags_in(request.headers.get("If-Match", "*"), weak=False):
        return change(**asked)
    seen = look()
    require_match(request, seen, shape_of(schema))
    try:
        return change(**asked, version=seen["version"])
    except PreconditionFailed:
        require_match(request, look(), shape_of(schema))
        raise


def versions_seen(request: Request) -> list[str] | None:
    """Return the versions that If-Match names, for the service that makes the change; None: whatever version it is."""
    tags = tags_in(request.headers.get("If-Match", "*"), weak=False)
    return None if "*" in tags else sorted({tag.partition("-")[0] for tag in tags})


@contextmanager
def told_what_is(request: Request, schema: type[Schema], load: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Where another service finds that something has changed since it was seen, say how it is now.

    Raises:
        PreconditionFailed: with the current state, as ``load`` gives it.
    """
    try:
        yield
    except PreconditionFailed:
        require_match(request, load(), shape_of(schema))
        raise
