"""Where providers may call back: only those that do, and at an address that is signed for one operation."""

from urllib.parse import parse_qs, urlsplit

import pytest

from services.generation.engine import Engine, engine_for
from services.generation.providers import available
from shared import config
from shared.callbacks import Callbacks
from shared.config import Secret
from shared.ids import new_id

KEYS = {f"PROVIDER_{name}_API_KEY": "a-key" for name in ("FAL", "REPLICATE", "OPENAI")}
OURS = Callbacks(public_url="https://darkroom.example", secret=Secret("s" * 40))


@pytest.mark.parametrize("name", ["fal", "replicate"])
def test_a_provider_that_calls_back_is_given_an_address_of_the_operation(name: str) -> None:
    operation_id = new_id("op")
    engine = Engine(providers=available(KEYS), routes={}, callbacks=OURS)

    address = urlsplit(engine.callback_url(name, operation_id=operation_id) or "")

    query = parse_qs(address.query)
    assert address.path == f"/v1/webhooks-in/{name}"
    assert OURS.fits(query["sig"][0], provider=name, operation_id=query["op"][0])
    assert query["op"] == [operation_id]


@pytest.mark.parametrize("name", ["openai", "local", "nobody"])
def test_others_are_given_none(name: str) -> None:
    engine = Engine(providers=available(KEYS), routes={}, callbacks=OURS)

    assert engine.callback_url(name, operation_id=new_id("op")) is None


def test_nobody_is_given_one_where_there_is_no_gateway_to_call() -> None:
    engine = Engine(providers=available(KEYS), routes={})

    assert engine.callback_url("fal", operation_id=new_id("op")) is None


def test_the_engine_of_a_process_signs_with_its_secret_below_the_gateways_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = {
        "GENERATION_DATABASE_URL": "postgresql+psycopg2://g@127.0.0.1/g",
        "AMQP_URL": "amqp://127.0.0.1",
        "STORAGE_URL": "file:///objects",
        "GATEWAY_PUBLIC_URL": "https://darkroom.example/",
        "SIGNING_SECRET": "s" * 40,
        "ENCRYPTION_KEYS": "e" * 40,
        "ADMIN_API_KEY": "a" * 40,
        **KEYS,
    }
    for variable, value in needed.items():
        monkeypatch.setenv(variable, value)

    engine = engine_for(config.load("generation-worker"))

    assert engine.callback_url("fal", operation_id="op_1") == OURS.address("fal", operation_id="op_1")
    assert "ssss" not in repr(engine)
