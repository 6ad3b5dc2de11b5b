"""Reading what a request brings, within its limits of size and time, and JSON out of it."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import eventlet
import msgspec
from werkzeug.http import parse_options_header

from shared.http_problems import BodyTooLarge, MalformedRequest, RequestTimeout, UnsupportedMediaType
from shared.http_schemas import error_at, pointer, refusal
from shared.problems import Problem

SMALL_BODY_BYTES = 64 << 10
NESTING_MAX = 64
_CHARSETS = {"utf-8", "utf8"}
_PIECE_BYTES = 64 << 10
_BASE_SECONDS = 10.0
_SLOWEST_BYTES_PER_SECOND = 100_000


def too_large(limit: int, _size: int | None) -> Problem:
    """Return the refusal of a body above ``limit`` bytes."""
    return BodyTooLarge(f"The body may have {limit} bytes at most.", limit=limit)


def read_body(
    environ: Mapping[str, Any],
    *,
    max_bytes: int,
    refuse: Callable[[int, int | None], Problem] = too_large,
) -> BinaryIO:
    """Return the whole body as a file at its start; above 64 KiB it lies on disk.

    A body that says it is too large is not read at all; one that does not say (chunked) is read up to the limit.
    A client slower than 100 kB/s past the first 10 s is not waited for.

    Raises:
        Problem: what ``refuse(limit, size or None)`` returned.
        UnsupportedMediaType: it is compressed; it was not read.
        RequestTimeout: it did not arrive in time.
        MalformedRequest: it ended early, or its chunks are not chunks.
    """
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in {"", "identity"}:
        close_after(environ)
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")
    length = declared_length(environ)
    if length is not None and length > max_bytes:
        close_after(environ)
        raise refuse(max_bytes, length)
    body = tempfile.SpooledTemporaryFile(max_size=SMALL_BODY_BYTES)  # noqa: SIM115  the request owns and closes it
    seconds = _BASE_SECONDS + max_bytes / _SLOWEST_BYTES_PER_SECOND
    try:
        with eventlet.Timeout(seconds, RequestTimeout("The body did not arrive in time; try again.")):
            size = _copy(environ["wsgi.input"], body, length=length, max_bytes=max_bytes)
        if size > max_bytes:
            raise refuse(max_bytes, None)  # noqa: TRY301  it leaves by the same door as what the reading raises
        body.seek(0)
    except BaseException:
        close_after(environ)
        body.close()
        raise
    return cast("BinaryIO", body)


def declared_length(environ: Mapping[str, Any]) -> int | None:
    """Return how many bytes the body has, or None where only reading it tells (chunked)."""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    return int(environ.get("CONTENT_LENGTH") or 0)


def close_after(environ: Mapping[str, Any]) -> None:
    """Let the connection end after the answer: what the client still sends is no request."""
    close = environ.get("darkroom.close")
    if close:
        close()


def json_of(body: bytes, *, content_type: str) -> Any:
    """Return the JSON value in ``body``.

    Raises:
        UnsupportedMediaType: ``content_type`` names something else, or another charset than JSON has (UTF-8).
        BadRequest: it is not JSON, holds what no database can (U+0000, numbers out of range), has an object with the
            same name twice (readers differ in which they take), or is nested deeper than any of our schemas: whatever
            walks it later would run out of stack.
    """
    kind, parameters = parse_options_header(content_type)
    kind = kind.lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType("Send JSON, with Content-Type: application/json.")
    if parameters.get("charset", "utf-8").lower() not in _CHARSETS:
        raise UnsupportedMediaType("Send JSON in UTF-8, the only charset it has (RFC 8259).")
    if not body:
        raise refusal([error_at("", "required", "a JSON object is needed here")])
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refusal([error_at("", "invalid_json", "this is not JSON")]) from error
    if body.count(b"[") + body.count(b"{") > NESTING_MAX and _is_deep(value):
        raise refusal([error_at("", "invalid", f"values may be nested {NESTING_MAX} levels deep")])
    if b"\\u0000" in body and _has_nul(value):
        raise refusal([error_at("", "invalid", "text may not hold the character U+0000")])
    if repeated := _repeated(body):
        raise refusal([error_at(at, "duplicate", "give it once") for at in repeated])
    return value


def _copy(source: Any, target: Any, *, length: int | None, max_bytes: int) -> int:
    """Copy until the end, or one byte past ``max_bytes``; return how many bytes that was."""
    size = 0
    limit = max_bytes + 1 if length is None else length
    while size < limit:
        piece = _read(source, min(_PIECE_BYTES, limit - size))
        if not piece:
            break
        target.write(piece)
        size += len(piece)
        eventlet.sleep(0)  # a client faster than we are must not keep the others waiting
    if length is not None and size < length:
        raise MalformedRequest("The body ended before it was complete.")
    return size


def _read(source: Any, size: int) -> bytes:
    try:
        piece: bytes = source.read(size)
    except (OSError, ValueError) as error:  # hung up, timed out, or a chunk that is none
        raise MalformedRequest("The body ended before it was complete.") from error
    return piece


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(NESTING_MAX):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _Repeating(dict[str, Any]):
    """An object of JSON in which ``names`` came more than once."""

    names: Sequence[str] = ()


def _repeated(body: bytes) -> list[str]:
    """Return the pointers of all names that came more than once in their object; ``body`` is JSON and not deep."""
    found = False

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        found = True
        repeating = _Repeating(members)
        repeating.names = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        return repeating

    # Numbers are not needed, and Python does not read those that are too long.
    value = json.loads(body.decode(), object_pairs_hook=object_of, parse_int=len, parse_float=len)
    return list(_repeated_in(value, "")) if found else []


def _repeated_in(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, _Repeating):
        yield from (pointer(name, at=at) for name in value.names)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _repeated_in(inner, pointer(name, at=at))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _repeated_in(inner, pointer(index, at=at))


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_has_nul(item) for item in value)
