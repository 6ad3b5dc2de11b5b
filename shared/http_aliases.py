"""Further addresses of a route, for clients that were written before its own: told once, beside the route.

A request that comes to one goes through the same route: the same guard, roles, limits and schemas, and the same answer.
Its Idempotency-Key is of that address, since the path is a part of what makes two requests the same.

A resource that is added declares its own: ``aliases=(Alias("POST", "/api/thing"),)`` on its `@route`. The body is the
route's; where clients of before sent another, the description has to say so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True, eq=False)
class Alias:
    """Another method and address of a route, whose placeholders have the same names in any order.

    ``renamed`` maps what a parameter of the query is called there to what the route calls it; ``ignored`` names those
    that are taken and not read, each with the reason; ``given`` has what the address itself says, by the route's names.
    """

    method: str
    url: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def check(self, url: str) -> None:
        """Compare with the address of its route.

        Raises:
            ValueError: one of them has a placeholder that the other has not.
        """
        if set(_PLACEHOLDER.findall(self.url)) != set(_PLACEHOLDER.findall(url)):
            raise ValueError(f"{self.method} {self.url} has other placeholders than {url}")

    def read(self, given: MultiDict[str, str]) -> MultiDict[str, str]:
        """Return the parameters of a query by the names the route has for them."""
        left_out = {*self.ignored, *self.given}
        kept = [(name, value) for name, value in given.items(multi=True) if name not in left_out]
        return MultiDict([*((self.renamed.get(name, name), value) for name, value in kept), *self.given.items()])

    def described(self, operation: dict[str, Any], *, method: str, path: str) -> None:
        """Make what the API's document says of the route, ``method path``, say it of this address."""
        own = {name: theirs for theirs, name in self.renamed.items()}
        operation["parameters"] = [each for each in operation["parameters"] if each["name"] not in self.given]
        for parameter in operation["parameters"]:
            if parameter["in"] == "query":
                parameter["name"] = own.get(parameter["name"], parameter["name"])
        operation["parameters"] += [
            {"in": "query", "name": name, "required": False, "description": f"Ignored: {why}", "schema": {}}
            for name, why in self.ignored.items()
        ]
        operation["operationId"] += "_at_" + re.sub(r"\W+", "_", _PLACEHOLDER.sub(r"\1", self.url)).strip("_")
        operation["deprecated"] = True
        meant = f"{method} {path}" + (f"?{urlencode(self.given)}" if self.given else "")
        operation["description"] = f"Kept for clients of before: the same as `{meant}`; use that."
