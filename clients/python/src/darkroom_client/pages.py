"""Lists: page after page, fetched when they are needed."""

from collections.abc import Iterator, Mapping
from typing import Any

from darkroom_client.errors import UnexpectedAnswer
from darkroom_client.models import M
from darkroom_client.transport import Transport


def each(
    transport: Transport, path: str, *, model: type[M], page_size: int, query: Mapping[str, Any] | None = None
) -> Iterator[M]:
    """Yield every item of a list; a page of at most ``page_size`` (200) is fetched when its first item is asked for."""
    after: str | None = None
    while True:
        page = transport.send("GET", path, query={**(query or {}), "limit": page_size, "after": after}).body
        yield from items(page, model=model)
        after = next_cursor(page)
        if after is None:
            return


def items(page: Any, *, model: type[M]) -> list[M]:
    """Return what is on a page."""
    return [model.from_json(item) for item in rows(page)]


def rows(page: Any) -> list[Any]:
    """Return what is on a page, as it came.

    Raises:
        UnexpectedAnswer: it is no page.
    """
    if not isinstance(page, Mapping) or not isinstance(page.get("data"), list):
        raise UnexpectedAnswer("expected a page of a list", code="unexpected_answer")
    return list(page["data"])


def next_cursor(page: Any) -> str | None:
    """Return where the next page begins; None after the last."""
    cursor: str | None = page.get("next_cursor") if page.get("has_more") else None
    return cursor
