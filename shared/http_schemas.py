"""Schemas at the HTTP border: what comes in is refused with JSON pointers, what goes out is cut to what is declared."""

from collections.abc import Iterator, Mapping
from typing import Any

import marshmallow
from marshmallow import fields

from shared.http_problems import ERRORS_MAX
from shared.problems import BadRequest

_DETAIL_MAX = 200
_CODES = {
    "Missing data for required field.": "required",
    "Field may not be null.": "null",
    "Unknown field.": "unknown_field",
}
Shape = Mapping[str, "Shape | None"]
SIGNED: Shape = {}
"""The shape of an address with a signature in its query; told from others by identity."""


class Schema(marshmallow.Schema):
    """A marshmallow schema; fields it does not know are refused."""

    class Meta:
        """Refusing is marshmallow's default as well; it is written here because clients rely on it."""

        unknown = marshmallow.RAISE


class SignedAddress(fields.String):
    """An address that is good for a while, by the signature in its query: the same resource has another one soon."""


class ProblemSchema(Schema):
    """An error, as every route answers it (RFC 9457); some codes have members of their own, such as ``limit``."""

    class Meta:
        """Further members are allowed by the standard, and used."""

        unknown = marshmallow.INCLUDE

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    instance = fields.String(required=True)
    code = fields.String(required=True, metadata={"description": "Stable; made for programs"})
    request_id = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    errors = fields.List(
        fields.Nested(
            Schema.from_dict(
                {
                    "pointer": fields.String(required=True),
                    "code": fields.String(required=True),
                    "detail": fields.String(required=True),
                },
                name="FieldProblemSchema",
            )
        ),
        required=True,
    )


def load(schema: Schema, data: Any, *, at: str = "") -> dict[str, Any]:
    """Return ``data`` as ``schema`` reads it.

    Args:
        schema: what is expected.
        data: decoded JSON, or the parameters of a query.
        at: the JSON pointer of ``data`` itself.

    Raises:
        BadRequest: it does not fit; ``errors`` names each place.
    """
    try:
        loaded: dict[str, Any] = schema.load(data)
    except marshmallow.ValidationError as error:
        raise refusal(list(_errors(error.messages, at))) from error
    return loaded


def refusal(errors: list[dict[str, str]]) -> BadRequest:
    """Return the problem for ``errors``, each ``{pointer, code, detail}``; its detail is the first of them."""
    first = errors[0]
    more = f" ({len(errors) - 1} more in errors)" if len(errors) > 1 else ""
    return BadRequest(f"{first['pointer'] or 'The body'}: {first['detail']}{more}", errors=errors[:ERRORS_MAX])


def error_at(pointer: str, code: str, detail: str) -> dict[str, str]:
    """Return one entry of ``errors``; texts that came from the client are cut to a length one can read."""
    return {"pointer": pointer[:_DETAIL_MAX], "code": code, "detail": detail[:_DETAIL_MAX]}


def pointer(*parts: object, at: str = "") -> str:
    """Return the JSON pointer (RFC 6901) to ``parts`` below ``at``."""
    return at + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def shape_of(schema: type[marshmallow.Schema] | tuple[type[marshmallow.Schema], ...]) -> Shape:
    """Return the names ``schema`` declares, nested; None stands where any value goes. Of several it is their union."""
    if isinstance(schema, tuple):
        return {name: inner for one in schema for name, inner in shape_of(one).items()}
    return {
        declared.data_key or name: _shape_of_field(declared)
        for name, declared in schema().fields.items()
        if not declared.load_only
    }


def cut(value: Any, shape: Shape | None) -> Any:
    """Return ``value`` without the members ``shape`` does not declare: the allow-list of what may go out."""
    if shape is None:
        return value
    if isinstance(value, list):
        return [cut(item, shape) for item in value]
    if isinstance(value, dict):
        return {name: cut(value[name], inner) for name, inner in shape.items() if name in value}
    return value


def has_signed(shape: Shape | None) -> bool:
    """Tell whether there are signed addresses in what has this shape."""
    return shape is SIGNED or any(has_signed(inner) for inner in (shape or {}).values())


def unsigned(value: Any, shape: Shape | None) -> Any:
    """Return ``value`` with every signed address cut before its query."""
    if shape is SIGNED and isinstance(value, str):
        return value.partition("?")[0]
    if isinstance(value, list):
        return [unsigned(item, shape) for item in value]
    if isinstance(value, dict) and shape:
        return {name: unsigned(inner, shape.get(name)) for name, inner in value.items()}
    return value


def _shape_of_field(declared: Any) -> Shape | None:
    if isinstance(declared, fields.Nested):
        return shape_of(type(declared.schema))
    if isinstance(declared, fields.List):
        return _shape_of_field(declared.inner)
    return SIGNED if isinstance(declared, SignedAddress) else None


def _errors(messages: Any, at: str) -> Iterator[dict[str, str]]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            yield from _errors(inner, at if name == "_schema" else pointer(name, at=at))
        return
    for message in messages if isinstance(messages, list) else [messages]:
        yield error_at(at, _CODES.get(str(message), "invalid"), str(message))
