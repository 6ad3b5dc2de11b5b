"""The hostile vendors are directed over HTTP, and say what they did not understand."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tools.hostile_providers.scripts import SCRIPTS
from tools.hostile_providers.server import BASE_PATHS, HostileProviders

DRAWING = "/getimg/v1/stable-diffusion-xl/image-to-image"


@pytest.fixture
def vendors() -> Iterator[HostileProviders]:
    with HostileProviders(time_scale=0.01).running() as running:
        yield running


def asked(vendors: HostileProviders, method: str, path: str, body: Any = None) -> requests.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    key = {"Authorization": "Bearer k"}
    return requests.request(method, vendors.address + path, data=text, headers=key, timeout=5)


def drawn(vendors: HostileProviders) -> int:
    return asked(vendors, "POST", DRAWING, {"model": "m", "prompt": "p", "seed": 1}).status_code


def test_scripts_that_wait_come_before_the_one_that_always_goes_on(vendors: HostileProviders) -> None:
    asked(vendors, "POST", "/control/always", {"script": "error_500"})
    asked(vendors, "POST", "/control/play", {"scripts": ["ok", "rate_limited"], "vendor": "getimg"})

    assert [drawn(vendors) for _ in range(4)] == [200, 429, 500, 500]
    assert [bill["vendor"] for bill in asked(vendors, "GET", "/control/bills").json()] == ["getimg"]
    assert asked(vendors, "GET", "/control").json()["always"] == "error_500"


def test_whoever_asks_is_told_every_script_and_command(vendors: HostileProviders) -> None:
    told = asked(vendors, "GET", "/control").json()

    assert set(told["scripts"]) == set(SCRIPTS)
    for command in told["commands"]:
        method, path = command.split()
        assert asked(vendors, method, path, {"scripts": [], "script": "ok"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/control/play", {"scripts": ["no_such_script"]}, 400),
        ("POST", "/control/always", {"scripts": ["ok"]}, 400),
        ("POST", "/control/always", "no JSON", 400),
        ("POST", "/control/always", [1], 400),
        ("GET", "/control/nothing", None, 404),
        ("POST", DRAWING, "no JSON", 400),
        ("POST", DRAWING, {}, 400),
        ("GET", "/fal/media/none", None, 400),
        ("GET", "/nobody", None, 404),
    ],
)
def test_what_is_not_understood_is_answered(
    vendors: HostileProviders, method: str, path: str, body: Any, status: int
) -> None:
    answer = asked(vendors, method, path, body)

    assert answer.status_code == status
    assert answer.json()["detail"]
    assert vendors.world.bills == []


def test_every_vendor_has_a_place(vendors: HostileProviders) -> None:
    assert asked(vendors, "GET", "/").json()["vendors"] == BASE_PATHS
