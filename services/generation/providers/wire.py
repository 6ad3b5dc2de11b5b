"""HTTP to a vendor: one request, one answer, and the certainty whether anything of the request went out.

One session a vendor and process, with an explicit limit of connections; no retries, redirects, proxies or cookies.
What costs money is sent on a line of its own: on one that has lain idle nobody could tell a request the other side
never read from one whose answer was lost. It must not know vendors, nor what is in an answer.
"""

import json as json_text
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import certifi
import requests
import structlog
from requests.adapters import HTTPAdapter

from services.generation.providers import answers
from services.generation.providers.line import CONNECT_SECONDS, Exchange, Line, TlsLine
from shared.outside_connections import Tls

ANSWER_BYTES_MAX: Final = 80 << 20
_PIECE_BYTES: Final = 256 << 10

log = structlog.get_logger(__name__)


class NotSent(Exception):
    """Nothing of the request has left this machine: it may be sent again. The message holds no secret."""


class AnswerLost(Exception):
    """The request went out, or part of it, and no whole answer came back. The message holds no secret."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole answer, whatever its status; ``headers`` are found in any spelling."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON that can be stored, or None where it is none."""
        return answers.of_json(self.body)


class _OneRequest:
    """What an SDK does inside `Wire.through`: it may send one request, and this is what became of it."""

    def __init__(self, *, seconds: float, billable: bool, headers: Mapping[str, str]) -> None:
        self.seconds = seconds
        self.billable = billable
        self.headers = headers
        self.reply: Reply | None = None
        self.failure: NotSent | AnswerLost | None = None
        self.begun = False


_one_request: ContextVar[_OneRequest] = ContextVar("one_request")


@cache
def _trusting(authorities: str) -> Tls:
    """Return the one context of this process that trusts them: reading a hundred authorities takes its time."""
    return Tls(authorities)


class _Adapter(HTTPAdapter):
    """Makes our connections, whose context is loaded with the authorities once and not with every connection."""

    def __init__(self, *, connections: int, authorities: str) -> None:
        self._tls = _trusting(authorities)
        super().__init__(pool_connections=2, pool_maxsize=connections, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002  requests' signature
        super().init_poolmanager(connections, maxsize, block=block, ssl_context=self._tls, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": Line, "https": TlsLine}

    def cert_verify(self, *_: Any) -> None:
        """Leave the context as it is: it checks certificate and name."""


class Wire:
    """Everything one process sends to one vendor. At most ``connections`` requests are under way; others wait.

    ``headers`` (the key among them) go with every request of `send`; an SDK brings its own to `through`.
    """

    def __init__(
        self, *, connections: int, headers: Mapping[str, str] | None = None, authorities: str | None = None
    ) -> None:
        self._turns = threading.BoundedSemaphore(connections)
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, and no other credentials out of ~/.netrc
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(connections=connections, authorities=authorities or certifi.where())
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __repr__(self) -> str:
        return "Wire(***)"

    def send(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        billable: bool = False,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
    ) -> Reply:
        """Send one request and return its answer, all within ``seconds``; ``billable`` ones on a line of their own.

        Raises:
            NotSent: nothing went out.
            AnswerLost: something did, and no whole answer came back.
        """
        sent = {**self._headers, **(headers or {})}
        if billable:
            sent["Connection"] = "close"  # the next one has a line of its own as well: this one need not lie idle
        if json is not None:
            body = json_text.dumps(json).encode()
            sent["Content-Type"] = "application/json"
        exchange = Exchange(seconds=seconds, own_line=billable)
        if not self._turns.acquire(timeout=seconds):
            raise NotSent("all connections to the vendor are busy")
        try:
            with exchange.current():
                return self._exchanged(exchange, method, url, headers=sent, body=body)
        except Exception as error:
            raise _told(error, exchange) from error
        finally:
            self._turns.release()

    def through(
        self,
        sdk_call: Callable[[], object],
        *,
        seconds: float,
        billable: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Let an SDK whose transport is `transport` send one request; return the answer as it came over the wire.

        What the SDK makes of the answer, an exception included, does not count. ``headers`` go with its own.

        Raises:
            NotSent, AnswerLost: as `send`.
            RuntimeError: the SDK sent nothing.
        """
        request = _OneRequest(seconds=seconds, billable=billable, headers=headers or {})
        token = _one_request.set(request)
        try:
            sdk_call()
        except Exception as error:
            if request.failure is not None:
                raise request.failure from error
            if request.reply is None:
                raise
            log.debug("sdk_stumbled", error_type=type(error).__name__, status=request.reply.status)
        finally:
            _one_request.reset(token)
        if request.reply is None:
            raise RuntimeError("the SDK has sent no request")
        return request.reply

    def transport(self, library: Any) -> Any:
        """Return a transport for ``library`` (httpx or httpx2) that sends over this wire.

        An error is told to the SDK with a status on which none sends again, or sleeps, by itself.
        """
        send = self._send_for_sdk

        class Transport(library.BaseTransport):
            def handle_request(self, request: Any) -> Any:
                reply = send(request.method, str(request.url), dict(request.headers), request.read())
                status = _NO_SUCH_ERROR if reply.status >= HTTPStatus.BAD_REQUEST else reply.status
                return library.Response(status, headers=_end_to_end(reply.headers), content=reply.body)

        return Transport()

    def _send_for_sdk(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
        request = _one_request.get()
        if request.begun:
            raise RuntimeError("an SDK may not send a second request by itself")
        request.begun = True
        kept = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        try:
            request.reply = self.send(
                method,
                url,
                headers={**kept, **request.headers},
                body=body or None,
                seconds=request.seconds,
                billable=request.billable,
            )
        except (NotSent, AnswerLost) as failure:
            request.failure = failure
            raise
        return request.reply

    def _exchanged(
        self, exchange: Exchange, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        answer = self._session.request(
            method,
            url,
            headers=headers,
            data=body,
            stream=True,
            allow_redirects=False,
            timeout=(min(CONNECT_SECONDS, exchange.left()), exchange.left()),
        )
        try:
            pieces = bytearray()
            while piece := answer.raw.read(_PIECE_BYTES, decode_content=False):
                pieces += piece
                if len(pieces) > ANSWER_BYTES_MAX:
                    raise AnswerLost(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
            if exchange.over():
                raise AnswerLost("the answer did not end in time")  # a line that was shut looks like the end of a body
            return Reply(status=answer.status_code, headers=answer.headers, body=bytes(pieces))
        finally:
            answer.close()


_NO_SUCH_ERROR: Final = 599
# Set by this wire itself, whatever the SDK wants.
_OURS: Final = frozenset({"host", "connection", "accept-encoding", "content-length", "transfer-encoding"})
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length"})


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _told(error: Exception, exchange: Exchange) -> NotSent | AnswerLost:
    """Return what a failure means. The libraries' own messages stay out of it: they may quote headers."""
    if isinstance(error, AnswerLost):
        return error
    causes = [type(error).__name__]
    inner = error.__cause__ or error.__context__
    while inner is not None and len(causes) < 4:  # noqa: PLR2004  enough to see what it was
        causes.append(type(inner).__name__)
        inner = inner.__cause__ or inner.__context__
    what = " < ".join(dict.fromkeys(causes))
    if exchange.sent:
        return AnswerLost(f"no whole answer: {'out of time' if exchange.over() else what}")
    return NotSent(f"not connected: {what}")
