"""How the lists of services are cut into pages. Knows no table."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from shared.problems import BadRequest

PAGE = 50
LARGEST_PAGE = 200
T = TypeVar("T")


def check_limit(limit: int) -> None:
    """Refuse a page of no rows or of too many.

    Raises:
        BadRequest: it is not 1 to 200.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadRequest(f"A page has 1 to {LARGEST_PAGE} items, not {limit}.")


def no_such_cursor() -> BadRequest:
    """Return the answer to a cursor that no page ended with."""
    return BadRequest("There is no such cursor; take next_cursor of the page before as it is.")


def page(rows: Sequence[T], *, limit: int, show: Callable[[T], dict[str, Any]], key: str = "id") -> dict[str, Any]:
    """Return ``{data, has_more, next_cursor}`` of rows that were read with one more than ``limit``.

    Args:
        rows: in the order of the list.
        limit: how many are shown at most.
        show: makes an item of a row.
        key: the field of an item that is its cursor.
    """
    return page_together(rows, limit=limit, show=lambda kept: [show(row) for row in kept], key=key)


def page_together(
    rows: Sequence[T], *, limit: int, show: Callable[[Sequence[T]], Sequence[dict[str, Any]]], key: str = "id"
) -> dict[str, Any]:
    """Return the same of rows that are shown all at once; ``show`` makes items of them, in their order."""
    data = list(show(rows[:limit]))
    more = len(rows) > limit
    return {"data": data, "has_more": more, "next_cursor": data[-1][key] if more else None}
