"""The real stack, started once for all stories, reached over HTTP only."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from darkroom_client import Darkroom
from tests.e2e.steps import MAIL_FOLDER, NewClient, NewDarkroom
from tests.fakes import FakeReceiver, FakeSite
from tests.faults.client import Client, credentials, new_organization
from tests.faults.stack import Stack, running_stack
from tests.oidc_issuer import AUDIENCE, LocalIssuer


@pytest.fixture(scope="session")
def outside_site() -> Iterator[FakeSite]:
    """Serve somebody else's web site, which the stack takes for a public one."""
    with FakeSite(address="127.0.0.2").running() as site:
        yield site


@pytest.fixture(scope="session")
def issuer() -> Iterator[LocalIssuer]:
    """Serve the identity provider of the stack."""
    with LocalIssuer().running() as running:
        yield running


@pytest.fixture(scope="session")
def receiver() -> Iterator[FakeReceiver]:
    """Serve a customer's receiver of webhooks, likewise."""
    with FakeReceiver().running() as running:
        yield running


@pytest.fixture(scope="session")
def stack(outside_site: FakeSite, issuer: LocalIssuer, receiver: FakeReceiver) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OUTSIDE_ALLOWED", f"{outside_site.place},{receiver.place}")
        environment.setenv("AUTH_OIDC_ISSUER", issuer.url)
        environment.setenv("AUTH_OIDC_AUDIENCE", AUDIENCE)
        with running_stack() as running:
            environment.setenv(MAIL_FOLDER, str(running.home / "mail"))
            yield running


@pytest.fixture
def new_client(stack: Stack) -> NewClient:
    """Return a function that makes an organization with a balance and gives its client."""
    keys = credentials(stack.home)

    def make(balance: int, *, plan: str = "pro") -> Client:
        return new_organization(keys["gateway_url"], keys["admin_key"], credits_granted=balance, plan=plan)

    return make


@pytest.fixture
def new_darkroom(new_client: NewClient) -> Iterator[NewDarkroom]:
    """Return a function that makes an organization likewise and gives the published client."""
    with ExitStack() as opened:

        def make(balance: int, *, plan: str = "pro") -> Darkroom:
            made = new_client(balance, plan=plan)
            return opened.enter_context(Darkroom(made.api_key, base_url=made.gateway_url))

        yield make


@pytest.fixture
def admin(stack: Stack) -> Client:
    """Return a client with the administrator's key."""
    keys = credentials(stack.home)
    return Client(gateway_url=keys["gateway_url"], api_key=keys["admin_key"])
