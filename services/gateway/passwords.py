"""Passwords: argon2id, off the hub, taking as long for an account that is not there as for one that is."""

import functools
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from shared.threads import in_a_thread

SHORTEST = 8
LONGEST = 200
# OWASP's cheat sheet on storing passwords: argon2id with 19 MiB, 2 passes, 1 lane (about 30 ms).
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


def hashed(password: str) -> str:
    """Return what is kept of a password: its hash, with salt and parameters."""
    return in_a_thread(_hasher.hash, _bytes(password))


def fits(password: str, password_hash: str | None) -> bool:
    """Tell whether a password is the one behind a hash; without a hash none is, found out just as slowly."""
    compared = password_hash or _hash_of_nobody()
    try:
        in_a_thread(_hasher.verify, compared, _bytes(password))
    except (Argon2Error, InvalidHashError):
        return False
    return password_hash is not None


@functools.cache
def _hash_of_nobody() -> str:
    return hashed(secrets.token_hex(16))


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
