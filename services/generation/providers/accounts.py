"""What an operator sets up for a vendor: key, address, limits. The key is in no ``repr``, log or error."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from shared.config import ConfigurationError, Secret
from shared.outside import Outside


@dataclass(frozen=True, kw_only=True)
class Account:
    """One vendor's settings. ``outside`` fetches results from wherever the vendor says they are."""

    name: str
    key: Secret
    base_url: str
    concurrency: int
    requests_per_minute: int | None
    time_limit_seconds: float
    outside: Outside


def account(
    environment: Mapping[str, str],
    name: str,
    *,
    base_url: str,
    concurrency: int,
    requests_per_minute: int | None,
    time_limit_seconds: float,
) -> Account | None:
    """Return the account of the vendor ``name``, or None where ``PROVIDER_<NAME>_API_KEY`` is not set.

    ``PROVIDER_<NAME>_BASE_URL``, ``_CONCURRENCY``, ``_REQUESTS_PER_MINUTE`` and ``_TIME_LIMIT_SECONDS`` replace what
    is given here; ``OUTSIDE_ALLOWED`` says what besides the public internet results may be fetched from.

    Raises:
        ConfigurationError: one of them is malformed; the message names it and shows no value.
    """
    prefix = f"PROVIDER_{name.upper()}"
    key = environment.get(f"{prefix}_API_KEY", "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"{prefix}_API_KEY holds characters that no key has; it may have been cut or wrapped")
    allowed = tuple(entry.strip() for entry in environment.get("OUTSIDE_ALLOWED", "").split(",") if entry.strip())
    return Account(
        name=name,
        key=Secret(key),
        base_url=_address(environment, f"{prefix}_BASE_URL", base_url),
        concurrency=int(_number(environment, f"{prefix}_CONCURRENCY", concurrency)),
        requests_per_minute=_limit(environment, f"{prefix}_REQUESTS_PER_MINUTE", requests_per_minute),
        time_limit_seconds=_number(environment, f"{prefix}_TIME_LIMIT_SECONDS", time_limit_seconds),
        outside=_guard(allowed),
    )


@cache
def _guard(allowed: tuple[str, ...]) -> Outside:
    """Return the one guard of this process for results of every vendor."""
    return Outside(allowed=allowed)


def _address(environment: Mapping[str, str], setting: str, usual: str) -> str:
    found = environment.get(setting, "").strip() or usual
    if not found.startswith(("http://", "https://")):
        raise ConfigurationError(f"{setting} must begin with https:// (or http:// for a server of your own)")
    return found.rstrip("/")


def _number(environment: Mapping[str, str], setting: str, usual: float) -> float:
    text = environment.get(setting, "").strip()
    try:
        found = float(text or usual)
    except ValueError:
        found = 0
    if found < 1:
        raise ConfigurationError(f"{setting} must be a number from 1 up")
    return found


def _limit(environment: Mapping[str, str], setting: str, usual: int | None) -> int | None:
    if usual is None and not environment.get(setting, "").strip():
        return None
    return int(_number(environment, setting, usual or 0))
