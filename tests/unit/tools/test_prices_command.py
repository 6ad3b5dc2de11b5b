"""The price book on the command line."""

import pytest

from tests.fakes import FakeServices
from tools.__main__ import main
from tools.commands import prices

NOW = {
    "sku": "staging.variant",
    "unit": "credits",
    "amount": 10,
    "product": "staging",
    "price_version": 1,
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_to": "2999-01-01T00:00:00Z",
}
THEN = {**NOW, "amount": 12, "price_version": 2, "valid_from": "2999-01-01T00:00:00Z", "valid_to": None}


@pytest.fixture
def credits_service(monkeypatch):
    credits_service = FakeServices().credits
    monkeypatch.setattr(prices, "call", lambda method, **arguments: getattr(credits_service, method)(**arguments))
    return credits_service


def test_the_list_has_the_prices_in_force_and_those_to_come(credits_service, capsys):
    credits_service.methods["pricing"] = lambda: {"data": [NOW], "upcoming": [THEN]}

    status = main(["prices", "list"])

    first, second = capsys.readouterr().out.splitlines()
    assert status == 0
    assert first.split() == ["staging.variant", "10", "credits", "from", NOW["valid_from"], "until", NOW["valid_to"]]
    assert second.split() == ["staging.variant", "12", "credits", "from", THEN["valid_from"]]


@pytest.mark.usefixtures("credits_service")
def test_a_list_without_announcements_has_the_prices_in_force(capsys):
    main(["prices", "list"])

    assert len(capsys.readouterr().out.splitlines()) == 1
