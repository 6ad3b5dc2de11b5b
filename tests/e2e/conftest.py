"""The real stack, started once for all stories, reached over HTTP only."""

from collections.abc import Iterator

import pytest

from tests.e2e.steps import NewClient
from tests.fakes import FakeSite
from tests.faults.client import Client, credentials, new_organization
from tests.faults.stack import Stack, running_stack


@pytest.fixture(scope="session")
def outside_site() -> Iterator[FakeSite]:
    """Serve somebody else's web site, which the stack takes for a public one."""
    with FakeSite(address="127.0.0.2").running() as site:
        yield site


@pytest.fixture(scope="session")
def stack(outside_site: FakeSite) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OUTSIDE_ALLOWED", outside_site.place)
        with running_stack() as running:
            yield running


@pytest.fixture
def new_client(stack: Stack) -> NewClient:
    """Return a function that makes an organization with a balance and gives its client."""
    keys = credentials(stack.home)

    def make(balance: int, *, plan: str = "pro") -> Client:
        return new_organization(keys["gateway_url"], keys["admin_key"], credits_granted=balance, plan=plan)

    return make


@pytest.fixture
def admin(stack: Stack) -> Client:
    """Return a client with the administrator's key."""
    keys = credentials(stack.home)
    return Client(gateway_url=keys["gateway_url"], api_key=keys["admin_key"])
