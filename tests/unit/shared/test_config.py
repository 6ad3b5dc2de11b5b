"""Settings: read once, told by name when they are wrong, and never shown when they are secret."""

import pytest

from shared import config
from shared.config import ConfigurationError, Secret

NEEDED = {
    "CREDITS_DATABASE_URL": "postgresql+psycopg2://credits:hunter2@127.0.0.1/credits",
    "GENERATION_DATABASE_URL": "postgresql+psycopg2://generation:hunter2@127.0.0.1/generation",
    "AMQP_URL": "amqp://darkroom:hunter2@127.0.0.1/%2F",
    "STORAGE_URL": "file:///objects",
    "SIGNING_SECRET": "s" * 32,
    "ENCRYPTION_KEYS": "e" * 32,
    "ADMIN_API_KEY": "a" * 32,
}


WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CREDITS_ADDRESS", "CREDITS_OPS_ADDRESS", "LOG_LEVEL", "MAX_WORKERS", "RETRY_DELAYS_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_what_is_not_set_has_the_default_of_the_embedded_stack() -> None:
    settings = config.load("credits")

    assert (settings.process, settings.service) == ("credits", "credits")
    assert settings.http_address is None
    assert settings.ops_address == ("127.0.0.1", 0)
    assert settings.retry_delays_seconds == (1, 5, 30, 120, 600)
    assert settings.log_level == "INFO"


def test_without_a_word_on_limits_one_client_cannot_take_a_production_gateway_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RATE_LIMIT_ADDRESS", "RATE_LIMIT_CREDENTIAL", "RATE_LIMIT_REFUSED_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)

    settings = config.load("credits")

    assert settings.rate_limit_address == "6000/minute"
    assert settings.rate_limit_credential == "3000/minute"
    assert settings.rate_limit_refused_credentials == "60/minute"


def test_without_a_word_on_webhooks_replicates_are_off_and_fals_are_verified_with_fals_own_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PROVIDER_REPLICATE_WEBHOOK_SECRET", "PROVIDER_FAL_JWKS_URL"):
        monkeypatch.delenv(name, raising=False)

    settings = config.load("credits")

    assert settings.replicate_webhook_secret == ""
    assert settings.fal_jwks_url == "https://rest.fal.ai/.well-known/jwks.json"


def test_the_secrets_of_webhooks_are_read_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_REPLICATE_WEBHOOK_SECRET", f"{WEBHOOK_SECRET},{WEBHOOK_SECRET}")
    monkeypatch.setenv("PROVIDER_FAL_JWKS_URL", "")

    settings = config.load("credits")

    assert settings.replicate_webhook_secret == f"{WEBHOOK_SECRET},{WEBHOOK_SECRET}"
    assert settings.fal_jwks_url == ""
    assert "MfKQ" not in repr(settings)


def test_a_worker_process_uses_the_database_of_its_service() -> None:
    settings = config.load("generation-worker")

    assert (settings.process, settings.service) == ("generation-worker", "generation")
    assert settings.database_url == NEEDED["GENERATION_DATABASE_URL"]


@pytest.mark.parametrize("name", [name for name in NEEDED if not name.startswith("GENERATION")])
def test_a_missing_setting_is_told_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)

    with pytest.raises(ConfigurationError, match=name):
        config.load("credits")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SIGNING_SECRET", "too short", "32 characters"),
        ("ENCRYPTION_KEYS", "too short", "32 characters"),
        ("ADMIN_API_KEY", "too short", "32 characters"),
        ("CREDITS_ADDRESS", "localhost", "host:port"),
        ("CREDITS_ADDRESS", "localhost:http", "host:port"),
        ("CREDITS_OPS_ADDRESS", "localhost:70000", "host:port"),
        ("LOG_LEVEL", "LOUD", "WARNING"),
        ("MAX_WORKERS", "many", "integer"),
        ("MAX_WORKERS", "0", "1"),
        ("DRAIN_SECONDS", "long", "number"),
        ("RETRY_DELAYS_SECONDS", "1,soon", "integer"),
        ("PROVIDER_ROUTES", "{", "image.stage"),
        ("PROVIDER_ROUTES", "[]", "image.stage"),
        ("PROVIDER_REPLICATE_WEBHOOK_SECRET", "hunter2", "whsec_"),
        ("PROVIDER_REPLICATE_WEBHOOK_SECRET", "whsec_", "whsec_"),
        ("PROVIDER_REPLICATE_WEBHOOK_SECRET", "whsec_!!!!", "whsec_"),
        ("PROVIDER_REPLICATE_WEBHOOK_SECRET", "whsec_aHVudGVyMg==", "whsec_"),
        ("PROVIDER_REPLICATE_WEBHOOK_SECRET", f"{WEBHOOK_SECRET},hunter2", "whsec_"),
        ("PROVIDER_FAL_JWKS_URL", "http://keys.example.com/jwks.json", "https://"),
        ("PROVIDER_FAL_JWKS_URL", "keys", "https://"),
        ("OUTSIDE_ALLOWED", "10.1.0.0/16,home", "10.1.0.0/16"),
        ("OUTSIDE_ALLOWED", "127.0.0.1:", "127.0.0.1:8080"),
        ("AUTH_OIDC_ISSUER", "http://clerk.example.com", "https://"),
        ("AUTH_OIDC_ISSUER", "http://127.0.0.1.example.com", "https://"),
        ("AUTH_OIDC_ISSUER", "https://clerk.example.com?x=1", "no query"),
        ("AUTH_OIDC_ISSUER", "clerk.example.com", "http"),
        ("AUTH_OIDC_ISSUER", "https://me:secret@clerk.example.com", "without a user name"),
        ("RATE_LIMIT_ADDRESS", "many", "600/minute"),
        ("RATE_LIMIT_CREDENTIAL", "0/minute", "600/minute"),
        ("RATE_LIMIT_URL", "memcached://somewhere", "redis://"),
        ("TRUSTED_PROXIES", "-1", "0"),
        ("CORS_ORIGINS", "app.example.com", "https://app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/", "https://app.example.com"),
        ("CONNECTIONS_PER_ADDRESS", "-1", "0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_by_name_with_what_it_should_be_but_not_its_value(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as refusal:
        config.load("credits")

    assert name in str(refusal.value)
    assert told in str(refusal.value)
    assert "too short" not in str(refusal.value)


def test_what_may_be_reached_inside_is_nothing_unless_an_operator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.load("credits").outside_allowed == ()

    monkeypatch.setenv("OUTSIDE_ALLOWED", "10.1.0.0/16,127.0.0.1:8080")

    assert config.load("credits").outside_allowed == ("10.1.0.0/16", "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8000", ("127.0.0.1", 8000)), ("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0))],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert config.parse_address(text) == address


def test_secrets_are_not_shown_by_their_repr_nor_by_that_of_the_settings() -> None:
    settings = config.load("credits")

    assert "hunter2" not in repr(settings)
    assert "s" * 32 not in repr(settings)
    assert repr(Secret("x")) == "Secret(***)"


def test_a_secret_is_used_like_any_other_text() -> None:
    assert Secret("amqp://host").partition("://")[2] == "host"
    assert f"{Secret('value')}" == "value"


@pytest.mark.parametrize(
    "issuer", ["https://clerk.example.com", "http://127.0.0.1:8080/realms/a", "http://localhost:1/"]
)
def test_an_issuer_is_kept_to_the_letter_with_those_its_tokens_may_be_for(
    issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_OIDC_ISSUER", issuer)
    monkeypatch.setenv("AUTH_OIDC_AUDIENCE", "https://app.example.com, api")

    settings = config.load("credits")

    assert settings.oidc_issuer == issuer
    assert settings.oidc_audience == ("https://app.example.com", "api")


@pytest.mark.parametrize("audience", [None, "", "app,,api"])
def test_an_issuer_alone_is_not_enough(audience: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_OIDC_ISSUER", "https://clerk.example.com")
    if audience is not None:
        monkeypatch.setenv("AUTH_OIDC_AUDIENCE", audience)

    with pytest.raises(ConfigurationError, match="AUTH_OIDC_AUDIENCE"):
        config.load("credits")


def test_without_an_issuer_nobody_outside_logs_anybody_in() -> None:
    assert (config.load("credits").oidc_issuer, config.load("credits").oidc_audience) == ("", ())
