"""How lists are cut into pages."""

from typing import Any

from marshmallow import fields, validate

from shared.http import Schema
from shared.pages import LARGEST_PAGE, PAGE

# Ids, and paths of ids: whatever a service takes for a place in a list.
CURSOR = validate.Regexp(r"[A-Za-z0-9_/-]{1,200}\Z", error="take next_cursor of the page before as it is")


def page_of(item: type[Schema], name: str) -> type[Schema]:
    """Return the schema of a page of ``item``; ``name`` is what the document calls it."""
    members: dict[str, Any] = {
        "data": fields.List(fields.Nested(item), required=True),
        "has_more": fields.Boolean(required=True),
        "next_cursor": fields.String(required=True, allow_none=True),
    }
    return type(f"{name}Schema", (Schema,), {**members, "__doc__": f"A page of {name}."})


class PageQuery(Schema):
    """Which part of a list."""

    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, LARGEST_PAGE))
    after = fields.String(load_default=None, validate=CURSOR)
