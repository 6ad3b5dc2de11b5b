"""Structured logs: one JSON line an event, a static snake_case name, ids as fields, the correlation id on each.

Secrets never get here by accident: values of fields that name one are masked, whatever the caller passed.
"""

import contextlib
import functools
import logging
import logging.config
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.contextvars import bound_contextvars, get_contextvars

from shared.config import Secret

_SECRET_WORD = (
    r"[\w-]{0,30}(?:secret|token|passw(?:or)?d"  # noqa: S105  what secrets are called, not one of them
    r"|api[_-]?key|(?:admin|encryption|private|signing)_keys?|authorization|credential|signature|cookie)[\w-]{0,30}"
)
_SECRET_NAME = re.compile(_SECRET_WORD, re.IGNORECASE)
_SECRETS_IN_TEXT = (
    (re.compile(r"\b(sk_live_|sk_test_|whsec_|adm_|ust_)[\w+/=-]+"), r"\1***"),
    (re.compile(r"\b((?:inv|pwr|eml)_[0-9a-z]{26}\.\d+\.)[\w-]+"), r"\1***"),
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), "***"),
    (
        re.compile(rf"""(\b{_SECRET_WORD}['"]?\s*[=:]\s*['"]?)(?:(?:Bearer|Basic)\s+)?[^&\s"',;)]+""", re.IGNORECASE),
        r"\1***",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+"), r"\1 ***"),
)
# What stands behind the `?` of an address may open it, by whatever name: of somebody else's no list is whole.
_QUERY = re.compile(r"""(\b[a-z][a-z0-9+.-]{1,20}://[^\s"'<>?#]{1,2000}[?#])[^\s"'<>]+""", re.IGNORECASE)
_HARMLESS = (bool, int, float, type(None))


# Nothing can be a secret without one of these in it. Most of our values are ids and numbers.
_PERHAPS_SECRET = re.compile(r"sk_|whsec_|adm_|ust_|inv_|pwr_|[:=]|Bearer|Basic")


def masked(text: str) -> str:
    """Return ``text`` without the secrets in it: API keys, passwords of addresses, signatures, tokens."""
    if not _PERHAPS_SECRET.search(text):
        return text
    for pattern, replacement in _SECRETS_IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def mask(_logger: Any, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the values of secret-named fields, and secrets inside text, by ``***``, however deep they are."""
    for key, value in record.items():
        if not key.startswith("_"):  # those are structlog's own
            record[key] = _without_secrets(key, value)
    return record


def _mask_queries(_logger: Any, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what follows the ``?`` of addresses by ``***`` in a traceback, and in a line that a library wrote."""
    for key in ("event", "exception"):
        if isinstance(text := record.get(key), str):
            record[key] = _QUERY.sub(r"\1***", text)
    return record


@functools.lru_cache(maxsize=1000)
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name) is not None


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, _HARMLESS):
        return value
    if isinstance(value, Secret) or _names_a_secret(name):
        return "***"
    if isinstance(value, Mapping):
        return {key: _without_secrets(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets("", item) for item in value]
    return masked(value if isinstance(value, str) else repr(value))


class _Written:
    """Writes each line at once; one that cannot be written is lost, and whatever logged it goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # full, or closed
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = warn = error = critical = fatal = exception = msg


def configure(*, process: str, level: str = "INFO") -> None:
    """Send every log line of this process, library lines included, to standard output as JSON."""
    shared_steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        lambda _logger, _method, record: {"process": process, **record},
        structlog.processors.format_exc_info,
        mask,
        _mask_queries,  # our own events are static, so what it finds is a library's
    ]
    written = _Written(sys.stdout)
    structlog.configure(
        # The library's way, through logging's own records and handlers, doubles what a line costs.
        processors=[*shared_steps, structlog.processors.JSONRenderer()],
        # What the level does not want is not worked out first.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: written,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    # None of these is in our lines, and looking them up is half the cost of one.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Our own entrypoints log each failure once, with its ids; nameko would repeat it with the arguments in clear.
    logging.getLogger("nameko").setLevel(logging.CRITICAL)
    logging.getLogger("amqp").setLevel(logging.WARNING)
    # It warns of what others' servers answer, with the whole address and their headers; we log what came of it.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


@contextlib.contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add ``fields`` to every log line, event and RPC call made inside the block."""
    with bound_contextvars(**{key: value for key, value in fields.items() if value is not None}):
        yield


def correlation() -> tuple[str | None, str | None]:
    """Return ``(correlation_id, causation_id)`` of what is being worked on, as far as known."""
    fields = get_contextvars()
    return fields.get("correlation_id"), fields.get("causation_id")
