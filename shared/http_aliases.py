"""Further addresses of a route, for clients that were written before its own: told once, beside the route.

A request that comes to one goes through the same route: the same guard, roles, limits and schemas, and the same answer.
Its Idempotency-Key is of that address, since the path is a part of what makes two requests the same.

A resource that is added declares its own: ``aliases=(Alias("POST", "/api/thing"),)`` on its `@route`. The body is the
route's, by the names that the alias has for its fields; where clients of before sent another, the description has to
say so.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from shared.http_schemas import error_at, pointer, refusal
from shared.problems import BadRequest

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True, eq=False)
class Alias:
    """Another method and address of a route, whose placeholders have the same names in any order.

    ``renamed`` maps what a parameter of the query, or a field of the body where the route takes one, is called there to
    what the route calls it: also a placeholder of the route that the address has not, which then is a field of the
    body. ``ignored`` names those that are taken and not read, each with the reason; ``given`` has the parameters of the
    query that the address itself says, by the route's names.
    """

    method: str
    url: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def check(self, url: str) -> None:
        """Compare with the address of its route.

        Raises:
            ValueError: one of them has a placeholder that the other has not, and no field stands for.
        """
        strange = set(_PLACEHOLDER.findall(self.url)) - set(_PLACEHOLDER.findall(url))
        if strange or not self._in_body(url) <= set(self.renamed.values()):
            raise ValueError(f"{self.method} {self.url} has other placeholders than {url}")

    def read(self, given: MultiDict[str, str]) -> MultiDict[str, str]:
        """Return the parameters of a query by the names the route has for them."""
        left_out = {*self.ignored, *self.given}
        kept = [(name, value) for name, value in given.items(multi=True) if name not in left_out]
        return MultiDict([*((self.renamed.get(name, name), value) for name, value in kept), *self.given.items()])

    def read_body(self, body: Any, *, url: str) -> tuple[Any, dict[str, str]]:
        """Return a JSON body by the names the route ``url`` has for its fields, and the placeholders that stood in it.

        Raises:
            BadRequest: a field came by the route's name for it, or a placeholder is missing, or no text.
        """
        if not isinstance(body, Mapping):
            return body, {}
        strange = [name for name in body if name in self._own and name not in self.renamed]
        if strange:
            problems = (
                error_at(pointer(one), "unknown_field", f"here it is called {self._own[one]}") for one in strange
            )
            raise refusal(list(problems))
        read = {self.renamed.get(name, name): value for name, value in body.items() if name not in self.ignored}
        named = {name: read.pop(name, None) for name in sorted(self._in_body(url))}
        missing = [self._own[name] for name, value in named.items() if not isinstance(value, str)]
        if missing:
            raise refusal([error_at(pointer(name), "required", "an id is needed here") for name in missing])
        return read, named

    def point(self, problem: BadRequest) -> None:
        """Let the errors of a problem name fields of the body as they are called at this address."""
        for error in problem.extra.get("errors", ()):
            at = error["pointer"]
            name, _, below = at.removeprefix("/").partition("/")
            if name in self._own:
                error["pointer"] = pointer(self._own[name]) + (f"/{below}" if below else "")
                problem.detail = problem.detail.replace(at, error["pointer"], 1)

    def described(
        self, operation: dict[str, Any], *, method: str, path: str, schemas: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Make what the API's document says of the route, ``method path``, say it of this address."""
        mine = set(_PLACEHOLDER.findall(self.url))
        operation["parameters"] = [
            one
            for one in operation["parameters"]
            if one["name"] not in self.given and (one["in"] != "path" or one["name"] in mine)
        ]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body and (self.renamed or self.ignored):
            name = body["schema"]["$ref"].rpartition("/")[2]
            body["schema"] = self._described_body(schemas[name], taken=set(re.findall(r"\{(\w+)\}", path)) - mine)
        elif not body:
            self._describe_query(operation["parameters"])
        operation["operationId"] += "_at_" + re.sub(r"\W+", "_", _PLACEHOLDER.sub(r"\1", self.url)).strip("_")
        operation["deprecated"] = True
        meant = f"{method} {path}" + (f"?{urlencode(self.given)}" if self.given else "")
        operation["description"] = f"Kept for clients of before: the same as `{meant}`; use that."

    @property
    def _own(self) -> Mapping[str, str]:
        """What this address calls what the route has other names for."""
        return {ours: theirs for theirs, ours in self.renamed.items()}

    def _in_body(self, url: str) -> set[str]:
        """Return the placeholders of the route that stand in the body here."""
        return set(_PLACEHOLDER.findall(url)) - set(_PLACEHOLDER.findall(self.url))

    def _describe_query(self, parameters: list[dict[str, Any]]) -> None:
        for parameter in parameters:
            if parameter["in"] == "query":
                parameter["name"] = self._own.get(parameter["name"], parameter["name"])
        parameters += [
            {"in": "query", "name": name, "required": False, "description": f"Ignored: {why}", "schema": {}}
            for name, why in self.ignored.items()
        ]

    def _described_body(self, schema: Mapping[str, Any], *, taken: set[str]) -> dict[str, Any]:
        """Return the route's schema with the names of here, and with the placeholders that were ``taken`` into it."""
        own = self._own
        described = deepcopy(dict(schema))
        properties = {own.get(name, name): part for name, part in described.get("properties", {}).items()}
        properties |= {own[name]: {"type": "string"} for name in sorted(taken)}
        properties |= {name: {"description": f"Ignored: {why}"} for name, why in self.ignored.items()}
        required = [*(own[name] for name in sorted(taken)), *(own.get(one, one) for one in schema.get("required", ()))]
        return {**described, "properties": properties, "required": required}
