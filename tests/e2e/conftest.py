"""The real stack, started once for all stories, reached over HTTP only."""

from collections.abc import Callable, Iterator

import pytest

from tests.faults.client import Client, credentials, new_organization
from tests.faults.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.fixture
def new_client(stack: Stack) -> Callable[[int], Client]:
    """Return a function that makes an organization with a balance and gives its client."""
    keys = credentials(stack.home)

    def make(balance: int) -> Client:
        return new_organization(keys["gateway_url"], keys["admin_key"], credits_granted=balance)

    return make
