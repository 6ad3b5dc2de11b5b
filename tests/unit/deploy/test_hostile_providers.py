"""`make up PROVIDERS=hostile`: every vendor's adapter is led to a server of our own, and no real key goes there."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from deploy.local import environment, ports, providers
from deploy.local.home import Home
from services.generation.model_registry import MODELS
from services.generation.operations import Answered
from services.generation.providers import available, candidates
from tests.contracts.providers import a_request
from tests.polling import until
from tests.waiting import carry_out
from tools.hostile_providers.server import BASE_PATHS

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def stack(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_without_being_asked_for_there_are_none(stack: Home) -> None:
    settings = environment.decide(stack, environ={})

    assert settings.vendors == ()
    assert not any(name.startswith("PROVIDER_") for name in settings.variables)


def test_the_launcher_knows_where_the_server_has_each_vendor() -> None:
    assert providers.BASE_PATHS == BASE_PATHS


def test_every_operation_goes_to_a_vendor(stack: Home) -> None:
    settings = environment.decide(stack, environ={}, hostile=True)
    vendors = available(settings.variables)
    routes = json.loads(settings.variables["PROVIDER_ROUTES"])

    operations = {name for model in MODELS for name in model.operations}
    first = {name: candidates(name, routes=routes, providers=vendors)[0].name for name in operations}

    assert "local" not in first.values()
    assert set(first.values()) == set(BASE_PATHS)


def test_a_real_key_is_not_sent_to_a_hostile_vendor(stack: Home) -> None:
    real = {"PROVIDER_OPENAI_API_KEY": "sk-real", "PROVIDER_OPENAI_BASE_URL": "https://api.openai.com/v1"}

    settings = environment.decide(stack, environ=real, hostile=True)

    assert "sk-real" not in settings.variables.values()
    assert settings.variables["PROVIDER_OPENAI_BASE_URL"].startswith("http://127.0.0.1:")


def test_the_command_serves_all_of_them_until_it_is_told_to_stop(stack: Home) -> None:
    settings = environment.decide(stack, environ={}, hostile=True)
    port = settings.variables["HOSTILE_PROVIDERS_PORT"]
    command = [sys.executable, "-m", "tools", "hostile-providers", "--port", port, "--time-scale", "0.01"]

    with subprocess.Popen(
        command, cwd=CHECKOUT, env={**os.environ, **settings.variables}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            until(lambda: not ports.is_free(int(port)), seconds=30)
            provider = available(settings.variables)["fal"]
            asked = a_request(provider, "image.stage")
            outcome = carry_out(provider, asked, poll_seconds=0.05)
            play = urllib.request.Request(
                f"http://127.0.0.1:{port}/control/play",
                data=b'{"scripts": ["capacity"], "vendor": "fal"}',
                method="POST",
            )
            urllib.request.urlopen(play, timeout=5).close()
            refused = provider.submit(asked)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/control/bills", timeout=5) as answer:
                bills = json.loads(answer.read())
        finally:
            server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=20)

    assert isinstance(outcome, Answered)
    assert getattr(refused, "code", None) == "capacity"
    assert [bill["operation_id"] for bill in bills] == [asked.operation_id]
    assert server.returncode == 0
    assert "1 pieces of work were billed" in said
