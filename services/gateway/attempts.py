"""How often a password may be tried: per client address and per account, counted in the database for all replicas.

An attempt counts before it is looked at, so that many at once are no way around it, and whether or not there is such
an account.
"""

import hashlib
import ipaddress

import sqlalchemy as sa

from shared.database import Database
from shared.problems import Problem

WINDOW_MINUTES = 15
OF_ADDRESS = 100
OF_ACCOUNT = 10
RESETS_OF_ACCOUNT = 5
_IPV6_NETWORK_BITS = 64

_COUNT = sa.text(f"""
    INSERT INTO auth_attempts AS known (subject, attempts, ends_at)
    VALUES (:subject, 1, now() + interval '{WINDOW_MINUTES} minutes')
    ON CONFLICT (subject) DO UPDATE SET
        attempts = CASE WHEN known.ends_at <= now() THEN 1 ELSE known.attempts + 1 END,
        ends_at = CASE WHEN known.ends_at <= now() THEN excluded.ends_at ELSE known.ends_at END
    RETURNING attempts, CAST(ceil(extract(epoch FROM ends_at - now())) AS integer) AS seconds_left
""")
_FORGET = sa.text("DELETE FROM auth_attempts WHERE subject = :subject")
_PRUNE = sa.text("DELETE FROM auth_attempts WHERE ends_at < now()")


class TooManyAttempts(Problem):
    """This address, or this account, was tried too often just now."""

    status = 429
    code = "too_many_attempts"
    title = "Too many attempts"
    remedy = "Wait `Retry-After` seconds; a forgotten password is replaced with `POST /v1/auth/password-reset`."
    retryable = True


def count(db: Database, *, address: str, email: str) -> None:
    """Count one attempt at an account's password from a client's address.

    Raises:
        TooManyAttempts: it is one too many for either.
    """
    _count(db, f"address:{_network(address)}", most=OF_ADDRESS)
    _count(db, _account(email), most=OF_ACCOUNT)


def count_reset(db: Database, *, address: str, email: str) -> None:
    """Count one request for a new password.

    Raises:
        TooManyAttempts: it is one too many for the client's address, or for the account.
    """
    _count(db, f"address:{_network(address)}", most=OF_ADDRESS)
    _count(db, f"reset:{_account(email)}", most=RESETS_OF_ACCOUNT)


def forget(db: Database, *, email: str) -> None:
    """Begin anew for an account: its owner has proved to be it."""
    with db.transaction() as session:
        session.execute(_FORGET, {"subject": _account(email)})


def prune(db: Database) -> None:
    """Drop the counts whose window is over."""
    with db.transaction() as session:
        session.execute(_PRUNE)


def _count(db: Database, subject: str, *, most: int) -> None:
    with db.transaction() as session:
        row = session.execute(_COUNT, {"subject": subject}).one()
    if row.attempts > most:
        raise TooManyAttempts(
            "Too many attempts. Wait a while, or ask for a new password.", retry_after=max(1, row.seconds_left)
        )


def _account(email: str) -> str:
    return f"account:{hashlib.sha256(email.encode()).hexdigest()}"


def _network(address: str) -> str:
    """Return what one client has: an IPv4 address, or the IPv6 network of one connection."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if known.version == 4:  # noqa: PLR2004  the version's number is its name
        return str(known)
    return str(ipaddress.ip_network((known, _IPV6_NETWORK_BITS), strict=False))
