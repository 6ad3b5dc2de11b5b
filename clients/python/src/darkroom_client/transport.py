"""Requests on their way: the key, time limits, retries, and errors as exceptions. It knows no resource."""

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import requests
from requests.adapters import HTTPAdapter

from darkroom_client import errors, retries
from darkroom_client.errors import DarkroomError, NoAnswer, UnexpectedAnswer
from darkroom_client.version import __version__

log = logging.getLogger("darkroom_client")

CONNECT_SECONDS = 10.0
_CONNECTIONS = 32
_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


@dataclass(frozen=True)
class Answer:
    """A successful answer; ``body`` is its JSON, or None where it has none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def retry_after(self) -> float | None:
        """When to ask again, in seconds."""
        return errors.retry_after_seconds(self.headers.get("Retry-After"))


class _Bearer(requests.auth.AuthBase):
    """Puts the key on a request. As an auth object, since requests lets a .netrc overwrite a plain header."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Transport:
    """Sends requests, again where that may help; may be shared by threads."""

    def __init__(self, *, api_key: str, base_url: str, timeout_seconds: float, retry_seconds: float) -> None:
        address = urlsplit(base_url)
        if address.scheme not in {"http", "https"} or not address.hostname or address.query or address.fragment:
            raise ValueError(f"base_url must be like https://darkroom.example, not {base_url!r}")
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ValueError("api_key is empty, or has blanks or other characters that no key has")
        self.base_url = base_url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.retry_seconds = retry_seconds
        self._key, self._nobody = _Bearer(api_key), _Bearer(None)
        self._session = _session()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def send(  # noqa: PLR0913  what a request is made of
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        repeatable: bool = False,
        more_seconds: float = 0.0,
        retry_seconds: float | None = None,
    ) -> Answer:
        """Send a request until it is answered, and return the answer.

        Args:
            method: a POST has an Idempotency-Key, the same in all its tries.
            path: below the base address, ``/v1/…``; it begins with one slash.
            query: what is None is left out.
            body: sent as JSON.
            content: in its place, gives the body of each try.
            headers: further ones.
            idempotency_key: made up where none is given.
            repeatable: a POST that does the same however often it comes, and takes no key.
            more_seconds: how much longer than usual the server may take.
            retry_seconds: how long to go on trying; the client's setting unless given.

        Raises:
            DarkroomError: refused, or not answered in time.
            ValueError: ``path`` could lead, and the key with it, to another server.
        """
        if not path.startswith("/") or path.startswith("//") or "\\" in path:
            raise ValueError(f"{path!r} is no path of the API; one begins like /v1/…")
        sent = {"Accept": "application/json", **(headers or {})}
        if method == "POST" and not repeatable:
            sent["Idempotency-Key"] = idempotency_key or uuid4().hex
        if body is not None:
            sent["Content-Type"] = "application/json"
            payload = json.dumps(body, allow_nan=False).encode()
            content = lambda: payload  # noqa: E731  one line says it
        query = {name: value for name, value in (query or {}).items() if value is not None}

        def once() -> Answer:
            data = content() if content else None
            with self.opened(
                method, self.base_url + path, params=query, data=data, headers=sent, more_seconds=more_seconds
            ) as answer:
                return _read(answer)

        return self.again_and_again(once, what=f"{method} {path}", retry_seconds=retry_seconds)

    def again_and_again(self, once: Callable[[], Answer], *, what: str, retry_seconds: float | None = None) -> Answer:
        """Return what ``once`` returns, calling it again while that may help and time is left."""
        give_up_at = time.monotonic() + (self.retry_seconds if retry_seconds is None else retry_seconds)
        attempt = 1
        while True:
            try:
                return once()
            except DarkroomError as error:
                error.attempts = attempt
                pause = retries.pause_seconds(error, attempt=attempt)
                if not retries.may_succeed_later(error) or time.monotonic() + pause > give_up_at:
                    raise
                log.debug("%s: %s; trying again in %.1f s (attempt %d)", what, error, pause, attempt)
            time.sleep(pause)
            attempt += 1

    @contextmanager
    def opened(
        self, method: str, url: str, *, with_key: bool = True, more_seconds: float = 0.0, **request: Any
    ) -> Iterator[requests.Response]:
        """Send one request and give its successful answer, unread; whatever breaks off meanwhile is `NoAnswer`.

        Redirects are not followed: the key stays with the address it was given for.
        """
        limits = (min(CONNECT_SECONDS, self.timeout_seconds), self.timeout_seconds + more_seconds)
        auth = self._key if with_key else self._nobody
        try:
            with self._session.request(
                method, url, auth=auth, timeout=limits, stream=True, allow_redirects=False, **request
            ) as answer:
                if not 200 <= answer.status_code < 300:  # noqa: PLR2004  2xx
                    raise errors.from_answer(answer.status_code, answer.headers, _json_or_none(answer))
                yield answer
        except _BROKEN as error:
            hopeless = isinstance(error, requests.exceptions.SSLError)
            what = f"{method} {urlsplit(url).path}: no answer from {urlsplit(url).netloc}"
            # Without its cause, which carries the request and so the key.
            raise NoAnswer(f"{what} ({_reason(error)})", code="no_answer", retryable=not hopeless) from None


def segment(value: str) -> str:
    """Return an id as a part of a path, whatever is in it.

    Raises:
        ValueError: it is empty, or leads elsewhere.
    """
    if value in {"", ".", ".."}:
        raise ValueError(f"{value!r} is no id")
    return quote(value, safe="")


def _session() -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = (
        f"darkroom-client/{__version__} python/{platform.python_version()} requests/{requests.__version__}"
    )
    adapter = HTTPAdapter(pool_maxsize=_CONNECTIONS)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _read(answer: requests.Response) -> Answer:
    if not answer.content:
        return Answer(answer.status_code, answer.headers, None)
    body = _json_or_none(answer)
    if body is None:
        kind = answer.headers.get("Content-Type")
        raise UnexpectedAnswer(
            f"{answer.url} answers {kind}, not JSON: is base_url the gateway's address?",
            code="unexpected_answer",
            status=answer.status_code,
        )
    return Answer(answer.status_code, answer.headers, body)


def _json_or_none(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """Return what failed, without urllib3's repetition of the address, which may hold a signature."""
    cause = error.args[0] if error.args else ""
    return f"{type(error).__name__}: {getattr(cause, 'reason', cause)}"
