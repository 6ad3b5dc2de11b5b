"""The published client against a server that plays scripted answers; its pauses between tries are short."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from darkroom_client import Darkroom, retries
from tests.fakes import Scripted, ScriptedServer

Play = Callable[..., tuple[Darkroom, ScriptedServer]]
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def play() -> Iterator[Play]:
    """Return a function that gives a client, and the server that answers it as scripted."""
    with ExitStack() as running:

        def start(*answers: Scripted | None, **settings: float) -> tuple[Darkroom, ScriptedServer]:
            server = running.enter_context(ScriptedServer(*answers).running())
            darkroom = running.enter_context(Darkroom("sk_live_secret", base_url=server.url, **settings))
            return darkroom, server

        yield start
