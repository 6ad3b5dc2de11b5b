"""How often a secret may be guessed at: from one address, at one account from one address, and at one account at all.

An attempt counts before it is looked at, so that many at once are no way around it, and whether or not there is such
an account; one that succeeds is taken back. Whoever is refused at one address counts no further, so that nobody can
lock somebody else out from there.
"""

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from shared.database import Database
from shared.http_limits import counted_as
from shared.problems import Problem

WINDOW_MINUTES = 15
OF_ADDRESS = 100

_ONE_MORE = """
    ON CONFLICT (subject) DO UPDATE SET
        attempts = CASE WHEN known.ends_at <= now() THEN 1 ELSE known.attempts + 1 END,
        ends_at = CASE WHEN known.ends_at <= now() THEN excluded.ends_at ELSE known.ends_at END
    RETURNING attempts, ends_at
"""
_END = f"now() + interval '{WINDOW_MINUTES} minutes'"
# Always in this order, so that two never wait for each other.
_COUNT = sa.text(f"""
    WITH of_address AS (
        INSERT INTO auth_attempts AS known (subject, attempts, ends_at) VALUES (:address, 1, {_END}) {_ONE_MORE}
    ), of_both AS (
        INSERT INTO auth_attempts AS known (subject, attempts, ends_at)
        SELECT :both, 1, {_END} FROM of_address WHERE attempts <= :most_of_address {_ONE_MORE}
    ), of_account AS (
        INSERT INTO auth_attempts AS known (subject, attempts, ends_at)
        SELECT :account, 1, {_END} FROM of_both WHERE attempts <= :most_of_both {_ONE_MORE}
    ), counted AS (
        SELECT ends_at, attempts > :most_of_address AS refused FROM of_address
        UNION ALL SELECT ends_at, attempts > :most_of_both FROM of_both
        UNION ALL SELECT ends_at, attempts > :most_of_account FROM of_account
    )
    SELECT CAST(ceil(extract(epoch FROM max(ends_at) - now())) AS integer) FROM counted WHERE refused
""")
_TAKE_BACK = sa.text("""
    WITH mine AS (
        SELECT subject FROM auth_attempts WHERE subject IN (:address, :both, :account)
        ORDER BY array_position(ARRAY[:address, :both, :account], subject) FOR UPDATE
    )
    UPDATE auth_attempts AS known
    SET attempts = CASE WHEN known.subject = ANY (CAST(:anew AS text[])) THEN 0 ELSE greatest(known.attempts - 1, 0) END
    FROM mine WHERE known.subject = mine.subject
""")
_PRUNE = sa.text("DELETE FROM auth_attempts WHERE ends_at < now()")


@dataclass(frozen=True, kw_only=True)
class Guessing:
    """One kind of guess, and how many of them there may be in a window."""

    kind: str
    of_both: int
    """At one account from one address."""
    of_account: int
    """At one account from wherever: far more, since anybody can use them up and its owner then has to wait."""


LOGIN = Guessing(kind="login", of_both=10, of_account=300)
PASSWORD = Guessing(kind="password", of_both=10, of_account=30)
RESET = Guessing(kind="reset", of_both=5, of_account=20)
CONFIRM = Guessing(kind="confirm", of_both=10, of_account=30)


class TooManyAttempts(Problem):
    """This address, or this account, was tried too often just now."""

    status = 429
    code = "too_many_attempts"
    title = "Too many attempts"
    remedy = "Wait `Retry-After` seconds; a forgotten password is replaced with `POST /v1/auth/password-reset`."
    retryable = True


@dataclass(frozen=True)
class Counted:
    """An attempt that was counted and may go on."""

    address: str
    both: str
    account: str


def count(session: Session, what: Guessing, *, address: str, account: str) -> Counted:
    """Count one attempt at ``account`` (an e-mail address, or an id) from a client's address.

    The transaction has to be committed before the guess is looked at.

    Raises:
        TooManyAttempts: it is one too many.
    """
    counted = _subjects(what, address=address, account=account)
    limits = {
        "most_of_address": OF_ADDRESS,
        "most_of_both": what.of_both,
        "most_of_account": what.of_account,
    }
    seconds_left = session.execute(_COUNT, {**vars(counted), **limits}).scalar_one()
    if seconds_left is not None:
        raise TooManyAttempts(
            "Too many attempts. Wait a while, or ask for a new password.", retry_after=max(1, seconds_left)
        )
    return counted


def take_back(session: Session, counted: Counted) -> None:
    """Count an attempt that succeeded no longer; this account begins anew at this address."""
    session.execute(_TAKE_BACK, {**vars(counted), "anew": [counted.both]})


def begin_anew(session: Session, what: Guessing, *, address: str, account: str) -> None:
    """Begin anew for an account, at all and at this address: its owner has proved to be it."""
    subjects = _subjects(what, address=address, account=account)
    session.execute(_TAKE_BACK, {**vars(subjects), "anew": [subjects.both, subjects.account]})


def prune(db: Database) -> None:
    """Drop the counts whose window is over."""
    with db.transaction() as session:
        session.execute(_PRUNE)


def _subjects(what: Guessing, *, address: str, account: str) -> Counted:
    network = counted_as(address)
    hashed = hashlib.sha256(account.encode()).hexdigest()
    return Counted(f"address:{network}", f"{what.kind}:{hashed}:{network}", f"{what.kind}:{hashed}")
