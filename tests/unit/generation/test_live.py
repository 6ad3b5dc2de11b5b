"""`make live`: it tries every vendor, and calls nobody without a key."""

import pytest

from tests import live
from tests.contracts.providers import VENDORS, environment_of, hostile_vendors, keys_in

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


def test_every_vendor_with_a_key_is_called_once_for_each_kind_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hostile_vendors() as (server, _):
        for name, value in environment_of(server).items():
            monkeypatch.setenv(name, value)

        status = live.main([])

        lines = capsys.readouterr().out.splitlines()
        assert (status, len(lines), len(server.world.bills)) == (0, 7, 7)
    assert keys_in("".join(lines)) == []


@pytest.mark.parametrize(("script", "status"), [("ok", 0), ("error_500", 1), ("other_model", 1)])
def test_it_passes_only_where_the_model_that_was_asked_for_has_answered(
    monkeypatch: pytest.MonkeyPatch, script: str, status: int
) -> None:
    with hostile_vendors() as (server, providers):
        server.world.always(script)
        monkeypatch.setattr(live, "available", lambda _environment: providers)

        assert live.main(["gemini"]) == status
