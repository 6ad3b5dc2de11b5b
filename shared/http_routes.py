"""What is declared about a route, and how a request goes through it: who asks, the guard, schema in, the handler.

It knows neither sockets nor nameko; a route can be called by anything that has a `Request`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any

from marshmallow.fields import Integer

from shared import budget, logs
from shared.http_aliases import Alias
from shared.http_body import SMALL_BODY_BYTES, json_of, too_large
from shared.http_conditions import require_match
from shared.http_exchange import Answer, Outcome, Principal, Request
from shared.http_problems import (
    NO_ADDRESS,
    AbnormalUsage,
    BodyTooLarge,
    MalformedRequest,
    RateLimited,
    ReducedCapacity,
    RequestTimeout,
    UnsupportedMediaType,
)
from shared.http_schemas import Schema, Shape, error_at, load, pointer, refusal, shape_of
from shared.problems import (
    BadRequest,
    Conflict,
    DailyCapReached,
    Forbidden,
    InsufficientCredits,
    JobClosed,
    KeyCapReached,
    NotFound,
    PreconditionFailed,
    Problem,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
    UnknownSku,
)

# An answer is promised within 2 s; what waits behind gets a little less.
DEFAULT_SECONDS = 1.8
# What has a time limit of its own (database, RPC) ends by itself, and better; this is for what has none.
_GRACE_SECONDS = 0.25
# Of such a size there may be some copies in memory for each request that is worked on.
MODEST_BODY_BYTES = 1 << 20
# Python would read 1_0, +5 and digits of other scripts as well.
_DIGITS = re.compile(r"-?[0-9]{1,18}", re.ASCII)

Handler = Callable[..., Outcome]
Guard = Callable[[Any, Request, Callable[[], Outcome]], Outcome]


@dataclass(frozen=True, kw_only=True)
class Auth:
    """A way to prove who asks: ``check(service, request)`` returns the principal or raises one of ``problems``.

    ``permit(route, principal)`` raises 403 where that principal may not use the route; ``described(route)`` says in
    the document who may. ``sent_as`` says where the credential is in a request, as an OpenAPI security scheme.
    ``counted`` is False where a credential is nobody's in particular, so that those who hold it share no limit.
    """

    scheme: str
    description: str
    check: Callable[[Any, Request], Principal]
    permit: Callable[["Route", Principal], None] = lambda _route, _principal: None
    described: Callable[["Route"], Mapping[str, Any]] = lambda _route: {}
    sent_as: Mapping[str, str] = field(default_factory=lambda: {"type": "http", "scheme": "bearer"})
    problems: tuple[type[Problem], ...] = (Unauthenticated, Forbidden)
    counted: bool = True


@dataclass(frozen=True, kw_only=True)
class FeatureFlag:
    """A switch of one organization: where ``is_on(service, request)`` is false, the route is not there."""

    name: str
    is_on: Callable[[Any, Request], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """Everything that is known of one route before a request comes; the OpenAPI entry is made of it.

    ``answers`` maps each status to the schema of its JSON (several where it depends), to a media type, or to None
    where there is no body. ``money`` says that it moves credits, so that its guard wants an Idempotency-Key; ``holds``
    that it holds them for a job, which can be refused with 402, and waited for. ``needs`` names what one has to be
    allowed to do, where that does not follow from the method. ``current`` gives what a route is about to change,
    ``(schema, load)``: ``load(service, request, **path_values)`` returns it as its GET does, and If-Match says which
    state of it is meant. ``aliases`` are addresses it had for clients of before.
    """

    method: str
    url: str
    summary: str
    answers: Mapping[int, type[Schema] | tuple[type[Schema], ...] | str | None]
    auth: Auth | None
    needs: str | None = None
    tags: tuple[str, ...] = ()
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    reads: tuple[str, ...] = ()
    money: bool = False
    holds: bool = False
    guard: Guard | None = None
    flag: FeatureFlag | None = None
    current: tuple[type[Schema], Callable[..., Mapping[str, Any]]] | None = None
    max_body_bytes: int = SMALL_BODY_BYTES
    too_large: Callable[[int, int | None], Problem] = too_large
    time_limit_seconds: float = DEFAULT_SECONDS
    problems: tuple[type[Problem], ...] = ()
    quiet: bool = False
    description: str = ""
    aliases: tuple[Alias, ...] = ()

    def __post_init__(self) -> None:
        for alias in self.aliases:
            alias.check(self.url)

    @property
    def takes_body(self) -> bool:
        """Whether a body is read at all."""
        return self.body is not None or bool(self.reads)

    @property
    def authenticates_first(self) -> bool:
        """Whether the body is so large that only a known client may send it."""
        return self.auth is not None and self.max_body_bytes > SMALL_BODY_BYTES

    @property
    def takes_turns(self) -> bool:
        """Whether the body is so large that few are worked on at once; it is never one that anybody may send."""
        return self.authenticates_first and self.max_body_bytes > MODEST_BODY_BYTES

    @cached_property
    def refusals(self) -> Sequence[type[Problem]]:
        """Every problem the route may answer, by status and code: those it declares and those that go with it."""
        found: list[type[Problem]] = [*self.problems, BadRequest, Unavailable, Problem]
        if self.auth:
            found += self.auth.problems
        if self.takes_body:
            found += [BodyTooLarge, UnsupportedMediaType, RequestTimeout, MalformedRequest]
        if "<" in self.url or self.flag:
            found.append(NotFound)
        if self.current:
            found.append(PreconditionFailed)
        if not self.quiet:
            found += [RateLimited, AbnormalUsage]
        if self.takes_turns:
            found.append(ReducedCapacity)
        if self.holds:
            found += [InsufficientCredits, QuotaExceeded, DailyCapReached, KeyCapReached]
            found += [Conflict, JobClosed, NotFound, UnknownSku]
        return sorted(set(found), key=lambda problem: (problem.status, problem.code))

    @cached_property
    def shapes(self) -> Mapping[int, Shape | None]:
        """What may go out, by status."""
        return {
            status: None if answer is None or isinstance(answer, str) else shape_of(answer)
            for status, answer in self.answers.items()
        }

    @cached_property
    def tagged(self) -> bool:
        """Whether what it answers has an entity tag: the state of something, for who may see it."""
        answer = self.answers.get(HTTPStatus.OK)
        return self.method == "GET" and self.auth is not None and not isinstance(answer, str) and answer is not None

    @cached_property
    def schemas(self) -> tuple[Schema | None, Schema | None]:
        """The schemas of query and body, built once."""
        return (self.query() if self.query else None, self.body() if self.body else None)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A route at work: ``run(request)`` takes a request through it, wherever its service lives."""

    route: Route
    run: Callable[[Request], Outcome]


def enter(route: Route, handler: Handler, service: Any, request: Request) -> Outcome:
    """Take ``request`` through ``route`` in the current budget; a first call without the body only authenticates.

    Raises:
        Problem: any refusal, this module's or the handler's.
        TimeLimitExceeded: it took longer than the route may.
    """
    seconds = budget.remaining_seconds(route.time_limit_seconds)
    with budget.interrupted_after(seconds + _GRACE_SECONDS, f"{route.method} {route.url}"):
        if route.auth and request.principal is None:
            request.principal = route.auth.check(service, request)
            route.auth.permit(route, request.principal)
            if request.limits and route.auth.counted:
                request.quotas += request.limits.let_on(f"{request.principal.kind}/{request.principal.id}")
        if route.flag and not route.flag.is_on(service, request):
            raise NotFound(NO_ADDRESS)
        with logs.bound(org_id=request.principal.org_id if request.principal else None):
            if route.takes_body and request.content is None:
                return Answer(100)
            if route.guard is None:
                return _handle(route, handler, service, request)
            return route.guard(service, request, lambda: _handle(route, handler, service, request))


def _handle(route: Route, handler: Handler, service: Any, request: Request) -> Outcome:
    query_schema, _ = route.schemas
    request.query = _query(query_schema, request)
    body = _body(route, request)
    try:
        return _handed_over(route, handler, service, request, body)
    except BadRequest as problem:
        if request.alias:
            request.alias.point(problem)
        raise


def _handed_over(route: Route, handler: Handler, service: Any, request: Request, body: Any) -> Outcome:
    _, body_schema = route.schemas
    if body_schema:
        request.body = load(body_schema, body)
    if route.current and "If-Match" in request.headers:
        schema, load_current = route.current
        require_match(request, load_current(service, request, **request.path_values), shape_of(schema))
    return handler(service, request, **request.path_values)


def _body(route: Route, request: Request) -> Any:
    """Return the JSON body by the names the route has; what stands in the route's address goes where it belongs."""
    if not route.body:
        return None
    value = json_of(request.raw, content_type=request.headers.get("Content-Type", ""))
    if request.alias:
        value, named = request.alias.read_body(value, url=route.url)
        request.path_values = {**request.path_values, **named}
    return value


def _query(schema: Schema | None, request: Request) -> dict[str, Any]:
    """Return the query as ``schema`` reads it; a parameter given twice is as much a mistake as an unknown one."""
    given = request.alias.read(request.query_parameters()) if request.alias else request.query_parameters()
    errors = [
        error_at(pointer("query", name), "invalid", "give it once, in printable characters")
        for name, values in given.lists()
        if len(values) > 1 or not "".join([name, *values]).isprintable()
    ]
    errors += [
        error_at(pointer("query", name), "invalid", "give a whole number in digits")
        for name, declared in (schema.fields.items() if schema else ())
        if isinstance(declared, Integer) and not _DIGITS.fullmatch(given.get(name, "0"))
    ]
    if errors:
        raise refusal(errors)
    return load(schema or Schema(), given.to_dict(), at="/query")
