"""Who may do what: the one table of roles and scopes, and the check that every route makes of it.

What a route needs follows from its declaration: `needs` where it has one, else whether it holds credits, else its
method. Pure; a new route is allowed nothing that this table does not say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPMethod
from types import MappingProxyType
from typing import Any, Final

from shared.http import Principal, Route
from shared.problems import Forbidden

OWNER: Final = "owner"
EDITOR: Final = "editor"
VIEWER: Final = "viewer"
ROLES: Final = (OWNER, EDITOR, VIEWER)

READ: Final = "read"
WRITE: Final = "write"
SPEND: Final = "spend"
MANAGE: Final = "manage"
OWN: Final = "own"
ACCOUNT: Final = "account"
SCOPES: Final = (READ, WRITE, SPEND, MANAGE)


@dataclass(frozen=True)
class Allowed:
    """Who may do one kind of thing: members of these roles, and keys with this scope, if keys may at all.

    ``unlimited``: only keys that nothing limits.
    """

    roles: tuple[str, ...]
    scope: str | None
    unlimited: bool = False


TABLE: Final[Mapping[str, Allowed]] = MappingProxyType(
    {
        READ: Allowed((OWNER, EDITOR, VIEWER), scope=READ),
        WRITE: Allowed((OWNER, EDITOR), scope=WRITE),
        SPEND: Allowed((OWNER, EDITOR), scope=SPEND),
        OWN: Allowed((OWNER,), scope=WRITE),  # what an owner alone may delete, whatever the key's limits are
        # Whoever can invite an owner, or make a key, can have all that an owner has, for good: a limit would be none.
        MANAGE: Allowed((OWNER,), scope=MANAGE, unlimited=True),
        ACCOUNT: Allowed((OWNER, EDITOR, VIEWER), scope=None),  # a person's own: no key stands for a person
    }
)


def needed(route: Route) -> str:
    """Return which line of the table a route of an organization stands in."""
    if route.needs:
        return route.needs
    if route.holds:
        return SPEND
    return READ if route.method == HTTPMethod.GET else WRITE


def permit(route: Route, principal: Principal) -> None:
    """Let ``principal`` use ``route``, or not.

    Raises:
        Forbidden: the role or the key's scopes do not allow it.
    """
    allowed = TABLE[needed(route)]
    if principal.role not in allowed.roles:
        raise Forbidden(
            f"This needs the role {' or '.join(allowed.roles)}; yours is {principal.role}. An owner can change that."
        )
    if principal.kind != "key":
        return
    if allowed.scope is None:
        raise Forbidden("This is for a person who is logged in: log in, and send the session's token.")
    if allowed.scope not in principal.scopes:
        raise Forbidden(f"This key has no scope {allowed.scope}; make one that has it, or use another.")
    if allowed.unlimited and not is_unlimited(principal):
        raise Forbidden(
            "Only a key that nothing limits may manage: a live one, with every scope, for every workflow, without a"
            " daily cap, that does not expire. Use such a key, or log in."
        )


def is_unlimited(key: Principal) -> bool:
    """Tell whether a key is live, with every scope, for every workflow, and without a daily cap or end of its own.

    One that was replaced by such a key is so to its end: its holder has yet to take the new one.
    """
    endless = key.expires_at is None or key.replaced
    uncapped = key.workflows is None and key.cap_id is None
    return key.livemode and key.scopes >= set(SCOPES) and uncapped and endless


def permit_workflow(principal: Principal, workflow: str) -> None:
    """Let a key ask for a job of ``workflow``, or for its price.

    Raises:
        Forbidden: the key is limited to others.
    """
    if principal.workflows is not None and workflow not in principal.workflows:
        allowed = ", ".join(sorted(principal.workflows)) or "none"
        raise Forbidden(f"This key may not ask for the workflow {workflow}; it may for: {allowed}.")


def described(route: Route) -> Mapping[str, Any]:
    """Return what the API's document says of who may use a route of an organization."""
    allowed = TABLE[needed(route)]
    return {"x-roles": list(allowed.roles), "x-scope": allowed.scope, "x-only-unlimited-keys": allowed.unlimited}
