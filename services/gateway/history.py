"""The history of a wallet: which entries are asked for, and all of them as one CSV file made page by page."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from shared.http_fields import rfc3339
from shared.ids import is_id
from shared.pages import LARGEST_PAGE
from shared.problems import NotFound

COLUMNS = (
    "id",
    "created_at",
    "kind",
    "unit",
    "amount",
    "held",
    "available_before",
    "available_after",
    "version",
    "product",
    "sku",
    "job_id",
    "generation_id",
    "session_id",
    "grant_id",
    "reason",
    "actor",
    "cause",
)
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection); the last four are full-width = + - @.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def chosen(service: Any, query: Mapping[str, Any], owner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters of ``query`` as credits takes them: an image stands for the generation it is of.

    Raises:
        NotFound: ``owner``, of an organization and a mode, has no such image.
    """
    filters = {**query, **period(query)}
    image_id = filters.pop("image")
    if image_id is not None:
        if not is_id(image_id, prefix="img"):
            raise NotFound("There is no such image.")
        image = service.generation.image(**owner, image_id=image_id)
        filters["generation"] = image["generation_id"]
    return filters


def entries(service: Any, filters: Mapping[str, Any], owner: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a page of the history; a test key's is empty, since nothing it asks for moves a credit."""
    if not owner["livemode"]:
        return {"data": [], "has_more": False, "next_cursor": None}
    page: Mapping[str, Any] = service.credits.entries(org_id=owner["org_id"], **filters)
    return page


def period(query: Mapping[str, Any]) -> dict[str, str | None]:
    """Return ``{since, until}`` of a query as they travel."""
    return {name: rfc3339(query[name]) if query[name] else None for name in ("since", "until")}


def as_csv(page_after: Callable[[str | None], Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield a CSV file (RFC 4180, UTF-8) of all entries, a page at a time and no more than one in memory.

    Args:
        page_after: gives the page ``{data, has_more, next_cursor}`` after a cursor.
    """
    head, cursor = [COLUMNS], None
    while True:
        page = page_after(cursor)
        yield _rows([*head, *(_cells(entry) for entry in page["data"])])
        if not page["has_more"]:
            return
        head, cursor = [], page["next_cursor"]


def pages_of(
    service: Any, filters: Mapping[str, Any], owner: Mapping[str, Any]
) -> Callable[[str | None], Mapping[str, Any]]:
    """Return what gives the page of the history after a cursor, as large as one may be."""

    def page_after(cursor: str | None) -> Mapping[str, Any]:
        return entries(service, {**filters, "limit": LARGEST_PAGE, "after": cursor}, owner)

    return page_after


def _cells(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(_harmless(entry.get(column)) for column in COLUMNS)


def _harmless(value: Any) -> Any:
    """Return a cell that no spreadsheet runs; numbers, which may begin with a minus, stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _rows(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
