"""Products and the revisions of their views."""

from collections.abc import Mapping
from typing import Any, Final

from marshmallow import ValidationError, fields, pre_load, validate

from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.http_fields import id_of, is_plain, said
from shared.http_schemas import SignedAddress

VIEW_TYPES: Final = ("front", "back", "left", "right", "top", "bottom", "detail")
NAME_MAX: Final = 200
CATEGORY_MAX: Final = 100
DESCRIPTION_MAX: Final = 5000
ROOM_TYPES_MAX: Final = 20
METADATA_MAX: Final = 50
METADATA_NAME_MAX: Final = 40
METADATA_TEXT_MAX: Final = 500
LARGEST_INTEGER: Final = 2**53 - 1
# No slash, since it stands in an address; and nothing that an address, or a spreadsheet, would take for more than text.
SKU = validate.Regexp(
    r"[A-Za-z0-9](?:[A-Za-z0-9 ._:+#-]{0,62}[A-Za-z0-9._:+#-])?\Z",
    error="1 to 64 letters, digits, spaces and . _ : + # -, the first a letter or digit, the last no space",
)
ROOM_TYPE = validate.Regexp(r"[a-z][a-z0-9_]{0,39}\Z", error="a slug, such as living_room")
_EXAMPLE = {"source": "erp", "weight_kg": 7.5}


def _text(text: str) -> None:
    """Refuse a text of several lines in which something is that cannot be seen or stored."""
    if not all(is_plain(line) for line in text.replace("\r\n", "\n").replace("\t", " ").split("\n")):
        raise ValidationError("leave out control characters and characters that cannot be seen")


def _unique(values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise ValidationError("name each once")


class Metadata(fields.Field[dict[str, Any]]):
    """What a client keeps with a product, by names of its own: texts, numbers, true, false, null; nothing nested."""

    def __init__(self, **options: Any) -> None:
        described = {
            "type": "object",
            "maxProperties": METADATA_MAX,
            "propertyNames": {"minLength": 1, "maxLength": METADATA_NAME_MAX},
            "additionalProperties": {
                "type": ["string", "number", "boolean", "null"],
                "maxLength": METADATA_TEXT_MAX,
                "minimum": -LARGEST_INTEGER,
                "maximum": LARGEST_INTEGER,
            },
            "examples": [_EXAMPLE],
        }
        super().__init__(**{**options, "metadata": {**described, **options.get("metadata", {})}})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, Any]:
        del attr, data
        if not isinstance(value, Mapping):
            raise ValidationError("Not a valid mapping type.")
        if len(value) > METADATA_MAX:
            raise ValidationError(f"at most {METADATA_MAX} names")
        errors = {name: [problem] for name, inner in value.items() if (problem := _misfit(name, inner))}
        if errors:
            raise ValidationError(errors)
        # Minus nothing is a number of JSON's, and none of the database's: it would be a change each time it comes.
        return {name: inner + 0 if isinstance(inner, float) else inner for name, inner in value.items()}


def _misfit(name: str, value: Any) -> str | None:
    """Return what is wrong with one of the metadata; None where nothing is."""
    if not (0 < len(name) <= METADATA_NAME_MAX and name.isprintable()):
        return f"a name has 1 to {METADATA_NAME_MAX} printable characters"
    if isinstance(value, str):
        try:
            _text(value)
        except ValidationError as error:
            return str(error.messages[0])
        return f"at most {METADATA_TEXT_MAX} characters" if len(value) > METADATA_TEXT_MAX else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return None if abs(value) <= LARGEST_INTEGER else "at most 2^53 - 1"
    return "a text, a number, true, false or null"


class ProductChangesRequest(Schema):
    """What to change of a product; what is left out stays. The SKU is for good; pictures come as views."""

    name = fields.String(validate=[validate.Length(1, NAME_MAX), said], metadata={"examples": ["Oak dining chair"]})
    category = fields.String(
        allow_none=True, validate=[validate.Length(1, CATEGORY_MAX), said], metadata={"examples": ["chairs"]}
    )
    room_types = fields.List(
        fields.String(validate=ROOM_TYPE),
        validate=[validate.Length(max=ROOM_TYPES_MAX), _unique],
        metadata={"uniqueItems": True, "examples": [["dining_room", "kitchen"]]},
    )
    description = fields.String(
        allow_none=True,
        validate=[validate.Length(max=DESCRIPTION_MAX), _text],
        metadata={"examples": ["Solid oak, oiled."]},
    )
    metadata = Metadata()

    @pre_load
    def _keep_the_sku(self, data: Any, **_: Any) -> Any:
        if isinstance(data, Mapping) and "sku" in data:
            raise ValidationError({"sku": ["a product keeps its SKU; for another, make another product"]})
        return data


class PutProductRequest(ProductChangesRequest):
    """A product whole: what is left out is empty. `upload_id` becomes a revision of its front view, if it is new."""

    name = fields.String(
        required=True, validate=[validate.Length(1, NAME_MAX), said], metadata={"examples": ["Oak dining chair"]}
    )
    upload_id = fields.String(allow_none=True, validate=id_of("ast", "an upload"))


class ProductRequest(PutProductRequest):
    """A new product. `upload_id` is the picture of its front; `sku` is for good."""

    sku = fields.String(allow_none=True, validate=SKU, metadata={"examples": ["DSK-001"]})

    @pre_load
    def _keep_the_sku(self, data: Any, **_: Any) -> Any:
        return data


class ProductsQuery(PageQuery):
    """Which products: of exactly this category, for this type of room, with this SKU."""

    category = fields.String(load_default=None, validate=[validate.Length(1, CATEGORY_MAX), said])
    room_type = fields.String(load_default=None, validate=ROOM_TYPE)
    sku = fields.String(load_default=None, validate=SKU)


class ViewRequest(Schema):
    """A picture of the product from one side."""

    view_type = fields.String(required=True, validate=validate.OneOf(VIEW_TYPES))
    upload_id = fields.String(required=True, validate=id_of("ast", "an upload"))


class ViewsQuery(PageQuery):
    """Which revisions: those of one view."""

    view_type = fields.String(load_default=None, validate=validate.OneOf(VIEW_TYPES))


class RevisionSchema(Schema):
    """One revision of a view. Each view has one that is current; addresses are good for an hour."""

    id = fields.String(required=True)
    product_id = fields.String(required=True)
    view_type = fields.String(required=True, validate=validate.OneOf(VIEW_TYPES))
    version = fields.Integer(required=True, metadata={"description": "Counts the view's revisions as they arrive"})
    is_current = fields.Boolean(required=True)
    source = fields.String(required=True, validate=validate.OneOf(["upload", "generation"]))
    upload_id = fields.String(required=True, allow_none=True)
    image_id = fields.String(required=True, allow_none=True)
    generation_id = fields.String(required=True, allow_none=True)
    parent_id = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The revision it was made after", "examples": ["rev_01kafv0s2bf4v8e6f6z5m4j0zt"]},
    )
    url = SignedAddress(required=True)
    thumbnail_url = SignedAddress(required=True)
    content_type = fields.String(required=True)
    bytes = fields.Integer(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    livemode = fields.Boolean(required=True)


class ProductSchema(Schema):
    """A product. `views` are its current revisions, the front first; `thumbnail_url` is that of the first."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    sku = fields.String(required=True, allow_none=True, metadata={"examples": ["DSK-001"]})
    category = fields.String(required=True, allow_none=True, metadata={"examples": ["chairs"]})
    room_types = fields.List(fields.String(), required=True)
    description = fields.String(required=True, allow_none=True)
    metadata = Metadata(required=True)
    thumbnail_url = SignedAddress(required=True, allow_none=True)
    views = fields.List(fields.Nested(RevisionSchema), required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)
    livemode = fields.Boolean(required=True)


class ProductsSchema(page_of(ProductSchema, "Products")):  # type: ignore[misc]  # mypy takes no class that is made
    """A page of products: `total` of them are chosen by the filters, and this is page `page`."""

    total = fields.Integer(required=True)
    page = fields.Integer(required=True)


RevisionsSchema = page_of(RevisionSchema, "Revisions")
