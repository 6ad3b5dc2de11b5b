"""The rules of products and of the revisions of their views. Knows no database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

VIEW_TYPES: Final = ("front", "back", "left", "right", "top", "bottom", "detail")
# The view that the picture named with a product is of: the one a catalogue shows.
MAIN_VIEW: Final = "front"
# How long the pictures of a deleted product are kept: whoever deleted it by mistake can ask an operator until then.
KEPT_AFTER_DELETION: Final = timedelta(days=30)
# What a client may say of a product besides its SKU, which stays as it is.
FIELDS: Final = ("name", "category", "room_types", "description", "metadata")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An upload that is to be a revision of a view; the bytes under ``thumbnail_key`` are stored."""

    revision_id: str
    upload_id: str
    thumbnail_key: str
    view_type: str = MAIN_VIEW


@dataclass(frozen=True, kw_only=True)
class NewProduct:
    """A product as its maker describes it. ``livemode`` is that of the credential."""

    product_id: str
    org_id: str
    livemode: bool
    user_id: str | None
    name: str
    sku: str | None = None
    category: str | None = None
    room_types: list[str] = field(default_factory=list)
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    picture: Picture | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What a client has said of it, and may change."""
        return {name: getattr(self, name) for name in FIELDS}


def new_product(*, picture: Mapping[str, Any] | None = None, **product: Any) -> NewProduct:
    """Read a product out of the arguments of a call."""
    return NewProduct(**product, picture=Picture(**picture) if picture else None)


def replaces(*, asked_at: datetime, of: str, current: tuple[datetime, str] | None) -> bool:
    """Tell whether a revision becomes the current one of its view.

    What was asked for last wins, whatever arrived last: a slow generation never undoes a wish that came after it.

    Args:
        asked_at: when the revision was asked for.
        of: the generation's id, or the revision's where it was uploaded; decides between equal times.
        current: the same two of the revision that is the current one; None where there is none.
    """
    return current is None or (asked_at, of) > current
