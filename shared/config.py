"""Settings of one process, read once from the environment; anything missing is told by name before anything starts."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import limits
from environs import Env, EnvError, validate
from marshmallow import ValidationError

from shared.outside_allowed import Allowed
from shared.outside_urls import UrlRefused, is_confidential, target_of

SERVICES = ("gateway", "credits", "generation", "catalog", "downloads", "notifications")


FAL_JWKS_URL = "https://rest.fal.ai/.well-known/jwks.json"
_HIGHEST_PORT = 65_535
_LONG_ENOUGH = validate.Length(min=32, error="a secret must have at least 32 characters")
_LOG_LEVEL = validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
_SIGNING_KEY_BYTES = range(24, 65)
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?", re.ASCII)
_MAIL_ADDRESS = re.compile(r"[^\s@<>,;:\"()]{1,64}@[^\s@<>,;:\"()]{1,255}")
_SOME = validate.Range(min=1)


class ConfigurationError(Exception):
    """A setting is missing or malformed; the message names the variable and what it should hold."""


class Secret(str):
    """A setting that must not be shown: its ``repr`` is masked, its value is used like any other text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one process needs to know. Durations are in seconds."""

    process: str
    service: str
    database_url: Secret
    amqp_url: Secret
    storage_url: Secret
    http_address: tuple[str, int] | None
    ops_address: tuple[str, int]
    public_url: str
    files_public_url: str
    signing_secret: Secret
    encryption_keys: Secret
    admin_api_key: Secret
    log_level: str = "INFO"
    max_workers: int = 50
    worker_slots: int = 64
    operations_per_organization: int = 20
    open_generations: int = 20_000
    operation_log_days: int = 400
    analysis_cache_days: int = 30
    open_test_generations: int = 50
    opening_credits: int = 0
    event_retention_days: int = 30
    smtp_url: Secret = Secret("")  # noqa: RUF009  a text cannot be changed
    mail_from: str = "Darkroom <no-reply@localhost>"
    # Who is told when something is wrong with the system as such.
    alert_emails: tuple[str, ...] = ()
    alert_webhook_url: str = ""
    alert_webhook_secret: Secret = Secret("")  # noqa: RUF009  a text cannot be changed
    terms_version: str = "1"
    drain_seconds: float = 8.0
    retry_delays_seconds: tuple[int, ...] = (1, 5, 30, 120, 600)
    rate_limit_address: str = ""
    rate_limit_credential: str = ""
    rate_limit_refused_credentials: str = ""
    rate_limit_url: Secret = Secret("")  # noqa: RUF009  a text cannot be changed
    trusted_proxies: int = 0
    cors_origins: tuple[str, ...] = ()
    connections_per_address: int = 0
    streams_per_organization: int = 100
    streams_per_principal: int = 25
    streams: int = 2000
    provider_routes: Mapping[str, list[str]] = field(default_factory=dict)
    # What webhooks of providers are signed with. Without it, one's are refused: nothing unsigned is ever taken.
    replicate_webhook_secret: Secret = Secret("")  # noqa: RUF009  as above
    fal_jwks_url: str = ""
    # What requests to addresses from outside may reach though it is not public: networks, each with a port or without.
    outside_allowed: tuple[str, ...] = ()
    # Whose tokens log people in besides our own sessions, exactly as they name themselves; and for whom they must be.
    oidc_issuer: str = ""
    oidc_audience: tuple[str, ...] = ()


def load(process: str) -> Settings:
    """Read the settings of ``process`` (a service's name, or ``generation-worker``).

    Raises:
        ConfigurationError: a variable is missing or malformed.
    """
    env = Env()
    service = process.partition("-")[0]
    prefix = process.upper().replace("-", "_")
    try:
        http = env.str(f"{prefix}_ADDRESS", None, validate=_an_address)
        return Settings(
            process=process,
            service=service,
            database_url=Secret(env.str(f"{service.upper()}_DATABASE_URL")),
            amqp_url=Secret(env.str("AMQP_URL")),
            storage_url=Secret(env.str("STORAGE_URL")),
            http_address=parse_address(http) if http else None,
            ops_address=parse_address(env.str(f"{prefix}_OPS_ADDRESS", "127.0.0.1:0", validate=_an_address)),
            public_url=env.str("GATEWAY_PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/"),
            files_public_url=env.str("FILES_PUBLIC_URL", "http://127.0.0.1:8001").rstrip("/"),
            signing_secret=Secret(env.str("SIGNING_SECRET", validate=_LONG_ENOUGH)),
            encryption_keys=Secret(env.str("ENCRYPTION_KEYS", validate=_LONG_ENOUGH)),
            admin_api_key=Secret(env.str("ADMIN_API_KEY", validate=_LONG_ENOUGH)),
            log_level=env.str("LOG_LEVEL", "INFO", validate=_LOG_LEVEL),
            max_workers=env.int("MAX_WORKERS", 50, validate=_SOME),
            worker_slots=env.int("WORKER_SLOTS", 64, validate=_SOME),
            operations_per_organization=env.int("OPERATIONS_PER_ORGANIZATION", 20, validate=_SOME),
            open_generations=env.int("OPEN_GENERATIONS_PER_ORGANIZATION", 20_000, validate=_SOME),
            operation_log_days=env.int("OPERATION_LOG_DAYS", 400, validate=_SOME),
            analysis_cache_days=env.int("ANALYSIS_CACHE_DAYS", 30, validate=validate.Range(min=0)),
            open_test_generations=env.int("OPEN_TEST_GENERATIONS", 50, validate=_SOME),
            opening_credits=env.int("OPENING_CREDITS", 0, validate=validate.Range(min=0)),
            smtp_url=Secret(env.str("SMTP_URL", "")),
            mail_from=env.str("MAIL_FROM", "Darkroom <no-reply@localhost>"),
            alert_emails=tuple(env.list("ALERT_EMAILS", [], subcast=str.strip, validate=_mail_addresses)),
            alert_webhook_url=env.str("ALERT_WEBHOOK_URL", ""),
            alert_webhook_secret=Secret(env.str("ALERT_WEBHOOK_SECRET", "")),
            event_retention_days=env.int("EVENT_RETENTION_DAYS", 30, validate=_SOME),
            terms_version=env.str("TERMS_VERSION", "1", validate=validate.Length(1, 50)),
            # A worker lets its provider calls end, which may take as long as the slowest provider is allowed to.
            drain_seconds=env.float("DRAIN_SECONDS", 120.0 if process.endswith("-worker") else 8.0),
            retry_delays_seconds=retry_delays(),
            outside_allowed=tuple(env.list("OUTSIDE_ALLOWED", [], validate=_places)),
            oidc_issuer=(issuer := env.str("AUTH_OIDC_ISSUER", "", validate=_an_issuer)),
            # A token that was made for anybody would do for us too: without an audience none is taken.
            oidc_audience=_audience(env) if issuer else (),
            rate_limit_address=env.str("RATE_LIMIT_ADDRESS", "6000/minute", validate=_a_rate),
            rate_limit_credential=env.str("RATE_LIMIT_CREDENTIAL", "3000/minute", validate=_a_rate),
            rate_limit_refused_credentials=env.str("RATE_LIMIT_REFUSED_CREDENTIALS", "60/minute", validate=_a_rate),
            rate_limit_url=Secret(env.str("RATE_LIMIT_URL", "", validate=_a_redis)),
            trusted_proxies=env.int("TRUSTED_PROXIES", 0, validate=validate.Range(min=0, max=10)),
            cors_origins=tuple(env.list("CORS_ORIGINS", [], validate=_origins)),
            connections_per_address=env.int("CONNECTIONS_PER_ADDRESS", 2000, validate=validate.Range(min=0)),
            streams_per_organization=env.int("STREAMS_PER_ORGANIZATION", 100, validate=_SOME),
            streams_per_principal=env.int("STREAMS_PER_PRINCIPAL", 25, validate=_SOME),
            streams=env.int("STREAMS", 2000, validate=_SOME),
            provider_routes=json.loads(env.str("PROVIDER_ROUTES", "{}", validate=_routes)),
            replicate_webhook_secret=Secret(
                env.str("PROVIDER_REPLICATE_WEBHOOK_SECRET", "", validate=_webhook_secrets)
            ),
            fal_jwks_url=env.str("PROVIDER_FAL_JWKS_URL", FAL_JWKS_URL, validate=_a_key_set),
        )
    except EnvError as error:
        raise ConfigurationError(
            f"{process}: {error}. Set it in the environment; `make up` writes all of them to .local/env"
        ) from error


def retry_delays() -> tuple[int, ...]:
    """Return the waits, in seconds, between the tries of a message; part of the topology, so alike everywhere."""
    return tuple(Env().list("RETRY_DELAYS_SECONDS", [1, 5, 30, 120, 600], subcast=int))


def parse_address(text: str) -> tuple[str, int]:
    """Return ``("127.0.0.1", 8000)`` for ``127.0.0.1:8000``.

    Raises:
        ConfigurationError: it is not ``host:port``.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise ConfigurationError(f"{text!r} is not an address; write host:port")
    return host.strip("[]"), int(port)


def _an_address(text: str) -> None:
    if text:
        try:
            parse_address(text)
        except ConfigurationError as error:
            raise ValidationError(str(error)) from error


def _places(entries: list[str]) -> None:
    try:
        Allowed(entries)
    except ValueError as error:
        raise ValidationError("must be networks such as 10.1.0.0/16 or 127.0.0.1:8080, with commas") from error


def _an_issuer(text: str) -> None:
    """Check ``https://clerk.example.com``; plain http only to this machine, where nobody can come in between."""
    if not text:
        return
    try:
        target = target_of(text)
    except UrlRefused as error:
        raise ValidationError(f"must be the address of an issuer: {error.detail}") from error
    if not is_confidential(target) or "?" in text or "#" in text:
        raise ValidationError("must begin with https:// (http:// only for this machine) and have no query")


def _webhook_secrets(text: str) -> None:
    """Check ``whsec_…`` (24 to 64 bytes in base 64); several with commas, while one takes the place of another."""
    for secret in filter(None, text.split(",")):
        try:
            size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
        except binascii.Error:
            size = 0
        if not secret.startswith("whsec_") or size not in _SIGNING_KEY_BYTES:
            raise ValidationError("must be the secret your account's webhooks are signed with, whsec_…")


def _a_key_set(text: str) -> None:
    """Check ``https://…/jwks.json``; plain http only to this machine, where nobody can come in between."""
    try:
        fits = not text or is_confidential(target_of(text))
    except UrlRefused:
        fits = False
    if not fits:
        raise ValidationError("must be the https:// address of a key set; empty to take no webhooks of this provider")


def _audience(env: Env) -> tuple[str, ...]:
    """Return for whom the issuer's tokens have to be, of which any will do."""
    return tuple(env.list("AUTH_OIDC_AUDIENCE", subcast=str.strip, validate=_names))


def _names(names: list[str]) -> None:
    if not all(names) or not names:
        raise ValidationError("must name whom the issuer's tokens are for, with commas")


def _a_rate(text: str) -> None:
    """Check ``600/minute``; nothing at all is no limit."""
    try:
        parsed = limits.parse(text) if text else None
    except ValueError:
        parsed = None
    if text and (parsed is None or parsed.amount < 1):
        raise ValidationError("must be how many requests in what time, e.g. 600/minute; empty for no limit")


def _a_redis(text: str) -> None:
    if text and not text.startswith(("redis://", "rediss://", "redis+unix://")):
        raise ValidationError("must be the address of a Redis, e.g. redis://127.0.0.1:6379; empty to count in memory")


def _mail_addresses(addresses: list[str]) -> None:
    if not all(_MAIL_ADDRESS.fullmatch(address) for address in addresses):
        raise ValidationError("must be e-mail addresses with commas between, e.g. ops@example.com")


def _origins(origins: list[str]) -> None:
    if any(origin != "*" and not _ORIGIN.fullmatch(origin) for origin in origins):
        raise ValidationError("must be origins with commas between, e.g. https://app.example.com; or * for all")


def _routes(text: str) -> None:
    """Check ``{"image.stage": ["local"]}``."""
    try:
        routes: Any = json.loads(text)
    except ValueError:
        routes = None
    if not isinstance(routes, dict) or not all(isinstance(names, list) for names in routes.values()):
        raise ValidationError('must be JSON, providers by operation, e.g. {"image.stage": ["local"]}')
