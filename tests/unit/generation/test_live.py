"""`make live`: it tries every vendor, and calls nobody without a key."""

import pytest

from services.generation.providers import available
from tests import live
from tests.contracts.providers import VENDORS, hostile_vendors

KEYS = [f"PROVIDER_{vendor.upper()}_API_KEY" for vendor in VENDORS]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Give what is sent to anybody: nothing goes out."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    requests: list[object] = []
    monkeypatch.setattr("services.generation.providers.wire.Wire.send", lambda *asked, **_: requests.append(asked))
    return requests


@pytest.mark.parametrize("named", [[], ["openai"]])
def test_nobody_is_called_without_a_key(
    sent: list[object], capsys: pytest.CaptureFixture[str], named: list[str]
) -> None:
    assert live.main(named) == 1
    assert sent == []
    assert "PROVIDER_<NAME>_API_KEY" in capsys.readouterr().out


def test_every_vendor_has_something_to_do_in_it() -> None:
    vendors = available(dict.fromkeys(KEYS, "none"))

    assert [name for name in VENDORS if not vendors[name].operations & set(live.PROMPTS)] == []


@pytest.mark.parametrize(("script", "status"), [("ok", 0), ("error_500", 1), ("other_model", 1)])
def test_it_passes_only_where_the_model_that_was_asked_for_has_answered(
    monkeypatch: pytest.MonkeyPatch, script: str, status: int
) -> None:
    with hostile_vendors() as (server, providers):
        server.world.always(script)
        monkeypatch.setattr(live, "available", lambda _environment: providers)

        assert live.main(["gemini"]) == status
