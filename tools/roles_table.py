"""The table of roles and scopes in docs/identity.md, made of the routes: between its two marks, and nowhere else."""

from collections.abc import Iterator

from services.gateway.authentication import api_key
from services.gateway.permissions import ROLES, TABLE, needed
from services.gateway.service import Gateway
from shared.http import Route, routes_of

BEGIN = "<!-- made by `make contracts`: roles -->"
END = "<!-- end -->"


def page(stored: str) -> str:
    """Return the page with its table as the routes have it now.

    Raises:
        ValueError: it has no place for one.
    """
    head, begin, rest = stored.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/identity.md has lost its marks {BEGIN} and {END}")
    return "\n".join([head + BEGIN, *_rows(), END + tail])


def _rows() -> Iterator[str]:
    yield f"| route | {' | '.join(ROLES)} | scope of a key |"
    yield "|---" * (len(ROLES) + 2) + "|"
    routes = [route for _, route in routes_of(Gateway) if route.auth and route.auth.scheme == api_key.scheme]
    yield from (_row(route) for route in sorted(routes, key=lambda route: (route.url, route.method)))


def _row(route: Route) -> str:
    allowed = TABLE[needed(route)]
    cells = ["yes" if role in allowed.roles else "" for role in ROLES]
    scope = f"`{allowed.scope}`" if allowed.scope else "none: for a person only"
    url = route.url.replace("<", "{").replace(">", "}")
    return f"| `{route.method} {url}` | {' | '.join(cells)} | {scope} |"
