"""The WSGI application: finds the route, reads the body, runs the handler, and sends what a client may see.

It runs in the connection's own green thread: a client that is slow, or waits, holds no worker.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from io import BytesIO
from typing import Any

import eventlet
import msgspec
import structlog
from eventlet.semaphore import Semaphore
from werkzeug.datastructures import EnvironHeaders
from werkzeug.routing import Map, Rule

from shared import budget, logs, metrics
from shared.http_addresses import path_of
from shared.http_aliases import Alias
from shared.http_body import close_after, read_body
from shared.http_conditions import tag_of, with_tag
from shared.http_exchange import Answer, Outcome, Request, Stream, Waiting, WaitingRoom
from shared.http_limits import Limits, client_address
from shared.http_origins import Origins, security_headers
from shared.http_problems import (
    RateLimited,
    ReducedCapacity,
    problem_body,
    problem_from,
    problem_headers,
    quota_headers,
    request_id,
)
from shared.http_routes import Endpoint, Route
from shared.http_schemas import cut
from shared.http_stream import Begun, Sending, close_pieces
from shared.problems import Unauthenticated

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
LARGE_BODIES_AT_ONCE = 8
_LARGE_BYTES = 64 << 10
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED = Route(method="*", url="unmatched", summary="", answers={}, auth=None)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Application:
    """Serves ``endpoints`` as a WSGI application."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        room: WaitingRoom | None = None,
        limits: Limits | None = None,
        proxies: int = 0,
        origins: Origins | None = None,
        encrypted: bool = False,
    ) -> None:
        self._room = room or WaitingRoom(sleep=eventlet.sleep)
        self._limits = limits
        self._proxies = proxies
        self._origins = origins or Origins()
        self._always = security_headers(encrypted=encrypted)
        self._unlimited = {endpoint.route.url for endpoint in endpoints if endpoint.route.quiet}
        self._large_bodies = Semaphore(LARGE_BODIES_AT_ONCE)
        self._proxy_told_of = False
        self._leaving: set[Begun] = set()
        self._closed = False
        # A second slash or a trailing one is another address, not a redirect: redirects lose bodies.
        self._map = Map(strict_slashes=True, merge_slashes=False, redirect_defaults=False)
        for endpoint in endpoints:
            self._map.add(Rule(endpoint.route.url, methods=[endpoint.route.method], endpoint=(endpoint, None)))
            for alias in endpoint.route.aliases:
                self._map.add(Rule(alias.url, methods=[alias.method], endpoint=(endpoint, alias)))

    def close(self) -> None:
        """Send home who waits, and let who follows something leave: the process is about to end."""
        self._closed = True
        self._room.close()
        for body in list(self._leaving):
            _let_leave(body)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; nothing is ever raised from here."""
        started = time.monotonic()
        request = _request(environ, limits=self._limits, proxies=self._proxies)
        self._tell_of_proxy(environ)
        route = _UNMATCHED
        with logs.bound(request_id=request.request_id, correlation_id=request.request_id):
            try:
                if request.limits and request.path not in self._unlimited:
                    request.quotas += request.limits.let_in(request.counted_as)
                endpoint, request.alias, request.path_values = self._find(environ)
                route = endpoint.route
                answer = _encoded(route, request, self._answer(endpoint, request, environ))
            except Exception as error:  # noqa: BLE001  problem_from logs what was not expected
                answer = _refusal(error, request, route)
                if isinstance(error, _Options):
                    answer = answer.with_headers(self._origins.preflight(request.headers.get("Origin"), error.allow))
            finally:
                if request.content:
                    request.content.close()
            return self._send(_Sent(route, request, answer, started), environ, start_response)

    def _tell_of_proxy(self, environ: Mapping[str, Any]) -> None:
        """Say once that a proxy seems to be in front that nobody told us of: all its clients count as one."""
        if not self._proxies and not self._proxy_told_of and "HTTP_X_FORWARDED_FOR" in environ:
            self._proxy_told_of = True
            log.warning(
                "forwarded_for_ignored",
                detail="A request came with X-Forwarded-For. Where proxies of yours add it, set TRUSTED_PROXIES to "
                "their number, else all clients behind them share one limit; where a client made it up, all is well.",
            )

    def _find(self, environ: dict[str, Any]) -> tuple[Endpoint, Alias | None, Any]:
        path = path_of(environ)
        adapter = self._map.bind("localhost")
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS" and (allow := sorted(adapter.allowed_methods(path))):
            raise _Options(allow)
        (endpoint, alias), path_values = adapter.match(path, method=method)
        return endpoint, alias, path_values

    def _answer(self, endpoint: Endpoint, request: Request, environ: dict[str, Any]) -> Answer:
        route = endpoint.route
        if route.authenticates_first:
            with budget.limited_to(route.time_limit_seconds):
                endpoint.run(request)
        request.content = BytesIO()
        if route.takes_body:
            request.content = read_body(environ, max_bytes=route.max_body_bytes, refuse=route.too_large)
        elif environ.get("HTTP_TRANSFER_ENCODING") or environ.get("CONTENT_LENGTH", "0") not in {"", "0"}:
            close_after(environ)  # a body nobody asked for stays unread
        with budget.limited_to(route.time_limit_seconds), self._turn_of(route):
            outcome = _begun(endpoint.run(request))
        return self._settled(outcome)

    @contextlib.contextmanager
    def _turn_of(self, route: Route) -> Iterator[None]:
        """Let few requests with large bodies be worked on at once: each may hold several copies in memory."""
        if not route.takes_turns:
            yield
            return
        if not self._large_bodies.acquire(timeout=budget.remaining_seconds(route.time_limit_seconds)):
            raise ReducedCapacity("Too many large requests are being worked on; try again in a moment.", retry_after=2)
        try:
            yield
        finally:
            self._large_bodies.release()

    def _settled(self, outcome: Outcome) -> Answer:
        if isinstance(outcome, Answer):
            return outcome

        def poll() -> Answer | None:
            with budget.limited_to(POLL_SECONDS):
                return outcome.poll()

        polled = Waiting(first=outcome.first, poll=poll, seconds=outcome.seconds, waiter=outcome.waiter)
        return self._room.wait(polled, now=time.monotonic)

    def _send(self, sent: "_Sent", environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        answer = sent.answer
        request = sent.request
        headers = {
            "X-Request-Id": request.request_id,
            **self._always,
            **self._origins.headers(request.headers.get("Origin")),
            **quota_headers(request.quotas),
            **answer.headers,
        }
        body: Any = answer.body
        if isinstance(body, bytes):
            headers["Content-Length"] = str(len(body))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(headers.items()))
        if body is None or isinstance(body, bytes) or environ["REQUEST_METHOD"] == "HEAD":
            close_pieces(body)
            sent.note()
            return [] if body is None or environ["REQUEST_METHOD"] == "HEAD" else [body]
        break_off = None  # where the length is promised, it shows that a part is missing
        if isinstance(body, Begun):
            environ["eventlet.minimum_write_chunk_size"] = 1  # each piece goes out as soon as it is made
            break_off = environ.get("darkroom.break_off")
            if body.sent_over and "darkroom.wire" in environ:
                body.sent_over(environ["darkroom.wire"])
            self._leaving.add(body)
            if self._closed:
                _let_leave(body)

        def done(**more: Any) -> None:
            self._leaving.discard(body)
            sent.note(**more)

        return Sending(body, request_id=sent.request.request_id, done=done, break_off=break_off)


def _let_leave(body: Begun) -> None:
    if body.leave:
        body.leave()


class _Options(Exception):
    """The client asks what an address takes; ``allow`` lists its methods."""

    def __init__(self, allow: Sequence[str]) -> None:
        super().__init__(allow)
        self.allow = allow


class _Sent:
    """One request and its answer, to be counted and logged once when it is done."""

    def __init__(self, route: Route, request: Request, answer: Answer, started: float) -> None:
        self.route = route
        self.request = request
        self.answer = answer
        self._started = started

    def note(self, **more: Any) -> None:
        """Count the request and write its line; the query is left out, for it may hold a signature."""
        seconds = time.monotonic() - self._started
        method = self.request.method if self.request.method in _METHODS else "other"
        metrics.http_requests.labels(self.route.url, method, str(self.answer.status)).inc()
        metrics.http_request_seconds.labels(self.route.url).observe(seconds)
        principal = self.request.principal
        (log.debug if self.route.quiet else log.info)(
            "http_request",
            method=method,
            route=self.route.url,
            path=self.request.path,
            status=self.answer.status,
            seconds=round(seconds, 4),
            request_id=self.request.request_id,
            **({"org_id": principal.org_id, "principal_id": principal.id} if principal else {}),
            **more,
        )


def _request(environ: dict[str, Any], *, limits: Limits | None, proxies: int) -> Request:
    return Request(
        limits=limits,
        address=client_address(environ, proxies=proxies),
        method=environ["REQUEST_METHOD"],
        path=environ.get("RAW_PATH_INFO") or environ["PATH_INFO"],
        query_string=environ.get("QUERY_STRING", ""),
        headers=EnvironHeaders(environ),
        request_id=request_id(environ.get("HTTP_X_REQUEST_ID")),
    )


def _encoded(route: Route, request: Request, answer: Answer) -> Answer:
    """Return ``answer`` with its JSON as bytes, cut to what the route declares for its status; or 304.

    Raises:
        LookupError: the route does not declare that status.
    """
    if answer.status not in route.answers:
        raise LookupError(f"{route.method} {route.url} answered {answer.status}, which it does not declare")
    if not isinstance(answer.body, dict | list):
        return answer
    shape = route.shapes[answer.status]
    body = cut(answer.body, shape)
    encoded = msgspec.json.encode(body)
    if len(encoded) > _LARGE_BYTES:
        eventlet.sleep(0)  # a long list takes as much work again for its tag
    headers = {"Content-Type": "application/json", "Cache-Control": "private, no-cache", **answer.headers}
    made = Answer(answer.status, encoded, headers)
    if route.tagged and answer.status == HTTPStatus.OK:
        return with_tag(request, made, tag_of(body, shape, encoded=encoded))
    return made


def _begun(outcome: Outcome) -> Outcome:
    """Return ``outcome`` with the first piece of a streamed body made: until then it can still be refused."""
    if not isinstance(outcome, Answer) or not isinstance(outcome.body, Stream):
        return outcome
    return Answer(outcome.status, Begun(outcome.body), {"Cache-Control": "private, no-store", **outcome.headers})


def _refusal(error: Exception, request: Request, route: Route) -> Answer:
    if isinstance(error, _Options):
        return Answer(HTTPStatus.NO_CONTENT, None, {"Allow": ", ".join(error.allow)})
    problem = problem_from(error)
    if route is not _UNMATCHED and problem.code not in {kind.code for kind in route.refusals}:
        log.warning("problem_not_declared", route=route.url, method=route.method, code=problem.code)
    if isinstance(problem, RateLimited):
        request.quotas += problem.quotas
    if isinstance(problem, Unauthenticated) and request.limits:
        request.limits.note_refused(request.counted_as)
    members = problem_body(problem, instance=request.path, request_id=request.request_id)
    return Answer(problem.status, msgspec.json.encode(members), problem_headers(problem))
