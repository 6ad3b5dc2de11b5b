"""Making an organization from the command line."""

import json

import pytest

from darkroom_client import retries
from tests.fakes import FakeGateway
from tools.__main__ import main
from tools.commands import organization


@pytest.fixture
def gateway(monkeypatch):
    fake = FakeGateway()
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.01)
    with fake.running() as url:
        monkeypatch.setenv("AMQP_URL", "amqp://another-system")
        monkeypatch.setenv("GATEWAY_PUBLIC_URL", url)
        monkeypatch.setenv("ADMIN_API_KEY", "adm_secret")
        yield fake


def test_the_first_organization_is_demo_studio_with_1000_credits(gateway, capsys):
    status = main(["organization", "create", "--first"])

    (_, path, headers, body) = gateway.requests[0]
    assert (status, path) == (0, "/v1/admin/organizations")
    assert headers["Authorization"] == "Bearer adm_secret"
    assert json.loads(body) == {"name": "Demo Studio", "credits": 1000}
    printed = json.loads(capsys.readouterr().out)
    assert (printed["org_id"], printed["api_key"]) == ("org_1", "sk_live_1")


def test_a_name_of_several_words_needs_no_quotes(gateway):
    main(["organization", "create", "Elm", "Street", "Homes", "--credits", "50", "--plan", "team"])

    assert json.loads(gateway.requests[0][3]) == {"name": "Elm Street Homes", "credits": 50, "plan": "team"}


def test_it_waits_for_a_gateway_that_is_not_ready_and_sends_the_same_key(gateway, capsys):
    gateway.refusals = [503, 503]

    status = main(["organization", "create", "--first"])

    keys = {headers["Idempotency-Key"] for _, _, headers, _ in gateway.requests}
    assert status == 0
    assert (len(gateway.requests), len(keys)) == (3, 1)
    assert capsys.readouterr().err == ""


def test_a_refusal_is_told_and_not_repeated(gateway, capsys):
    gateway.refusals = [401]

    status = main(["organization", "create", "--first"])

    assert status == 1
    assert len(gateway.requests) == 1
    assert "401 refused: Not today. (request req_1)" in capsys.readouterr().err


def test_patience_ends(gateway, capsys, monkeypatch):
    monkeypatch.setattr(organization, "PATIENCE_SECONDS", 0.05)
    gateway.refusals = [503] * 1000

    status = main(["organization", "create", "--first"])

    assert status == 1
    assert "make status" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["Elm", "--first"]])
def test_neither_no_name_nor_two_will_do(words, capsys):
    status = main(["organization", "create", *words])

    assert status == 1
    assert "either a NAME or --first" in capsys.readouterr().err
