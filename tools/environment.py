"""Where a command finds the system: the environment, or the embedded stack of this checkout."""

import os

from deploy.local import environment, home
from shared.config import SERVICES
from tools.failures import CommandFailed

# Settings that say which system is meant. One from here and the rest from there would compare, or clean up,
# two different systems against each other.
_PLACES = ("AMQP_URL", "STORAGE_URL", *(f"{service.upper()}_DATABASE_URL" for service in SERVICES))


def setting(name: str) -> str:
    """Return a setting of the system this command works on.

    Raises:
        CommandFailed: it is nowhere to be found.
    """
    value = os.environ.get(name) or _embedded().get(name)
    if value:
        return value
    raise CommandFailed(
        f"{name} is not set. Start the embedded stack (make up), or set {name} in the environment; once that"
        " names a database, a broker or a store of its own, nothing is taken from the embedded stack"
    )


def database_url(service: str) -> str:
    """Return the address of a service's database (see `setting`)."""
    return setting(f"{service.upper()}_DATABASE_URL")


def _embedded() -> dict[str, str]:
    """Return the settings of the embedded stack, or nothing when the environment names another system."""
    written = environment.read_file(home.find_home())
    named = {name: os.environ[name] for name in _PLACES if os.environ.get(name)}
    return written if all(written.get(name) == value for name, value in named.items()) else {}
