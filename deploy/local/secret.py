"""The passwords and keys of one embedded stack: made once, kept in `.local/secrets.json` (0600)."""

import base64
import secrets
from collections.abc import Callable

from deploy.local import home, postgres, rabbitmq
from deploy.local.home import Home
from deploy.local.names import SERVICES
from deploy.local.postgres import SUPERUSER


def _encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()  # what Fernet expects


MAKERS: dict[str, Callable[[], str]] = {
    **{f"postgres:{role}": postgres.new_password for role in (SUPERUSER, *SERVICES)},
    "rabbitmq:password": postgres.new_password,
    "rabbitmq:cookie": rabbitmq.new_cookie,
    "rabbitmq:node": rabbitmq.new_name,
    "SIGNING_SECRET": lambda: secrets.token_urlsafe(32),
    "ENCRYPTION_KEYS": _encryption_key,
    "ADMIN_API_KEY": lambda: f"adm_{secrets.token_urlsafe(32)}",
}


def load(stack: Home) -> dict[str, str]:
    """All secrets of the stack by name; those that are missing are made and kept."""
    known: dict[str, str] = home.read_json(stack.secrets_file) or {}
    missing = {name: make() for name, make in MAKERS.items() if name not in known}
    if missing:
        known |= missing
        home.write_json(stack.secrets_file, known)
    return known
