"""HTTP for a service, in one declaration a route: what may call it, what it reads, answers and refuses.

@route("POST", "/v1/things", auth=api_key, body=ThingRequest, answers={201: ThingSchema}, summary="Make a thing")
def create_thing(self, request: Request) -> Answer:
    return Answer(201, things.create(self.db, org_id=request.org_id, **request.body))
"""

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

from nameko.extensions import register_entrypoint

from shared.http_aliases import Alias
from shared.http_application import Application
from shared.http_exchange import Answer, Outcome, Principal, Request, Stream, Waiting, Wire
from shared.http_routes import Auth, Endpoint, FeatureFlag, Guard, Handler, Route, enter
from shared.http_schemas import Schema
from shared.http_server import HttpEntrypoint

__all__ = [
    "Alias",
    "Answer",
    "Auth",
    "FeatureFlag",
    "Guard",
    "Handler",
    "Outcome",
    "Principal",
    "Request",
    "Route",
    "Schema",
    "Stream",
    "Waiting",
    "Wire",
    "application_of",
    "route",
    "routes_of",
]


def route(method: str, url: str, **declared: Any) -> Callable[[Handler], Handler]:
    """Serve ``method url`` by the decorated method of a service class; see `Route` for what may be declared.

    The method is called as ``handler(self, request, **path_values)`` and returns an `Answer` or `Waiting`. An
    exception that is a Problem is answered as such; any other is 500, without its text.
    """
    declaration = Route(method=method, url=url, **declared)

    def register(handler: Handler) -> Handler:
        @wraps(handler)
        def entry(service: Any, request: Request) -> Outcome:
            return enter(declaration, handler, service, request)

        entry.route = declaration  # type: ignore[attr-defined]  # read again by routes_of
        register_entrypoint(entry, HttpEntrypoint(declaration))
        return entry

    return register


def routes_of(service_class: type) -> Iterator[tuple[str, Route]]:
    """Yield ``(method name, route)`` for every route of a service class, by name."""
    for name in sorted(dir(service_class)):
        declaration = getattr(getattr(service_class, name), "route", None)
        if isinstance(declaration, Route):
            yield name, declaration


def application_of(service: Any, **options: Any) -> Application:
    """Return the WSGI application over one instance of a service, without nameko: for tests and tools."""
    return Application(
        [
            Endpoint(declaration, partial(getattr(type(service), name), service))
            for name, declaration in routes_of(type(service))
        ],
        **options,
    )
