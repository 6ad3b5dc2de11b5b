"""Stored objects and the rows that name them: which objects nobody names, and which rows have lost theirs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from shared.storage import ObjectStat, ObjectStore, StorageUnavailable, open_store
from tools import databases
from tools.environment import setting
from tools.failures import CommandFailed

ORPHAN_AFTER = timedelta(hours=24)
_BATCH = 1000


@dataclass(frozen=True)
class Owner:
    """Who keeps the rows of all objects under a prefix; ``statement`` picks from ``:keys`` those that a row names.

    A row of an image that was put aside by its owner still names its objects, until they are purged.
    """

    prefix: str
    service: str
    statement: str


OWNERS = (
    Owner(
        "assets/",
        "catalog",
        "SELECT key FROM assets WHERE key = ANY(:keys) AND deleted_at IS NULL"
        " UNION SELECT thumbnail_key FROM assets WHERE thumbnail_key = ANY(:keys) AND deleted_at IS NULL",
    ),
    Owner(
        "images/",
        "generation",
        "SELECT key FROM images WHERE key = ANY(:keys) AND purged_at IS NULL"
        " UNION SELECT thumbnail_key FROM images WHERE thumbnail_key = ANY(:keys) AND purged_at IS NULL",
    ),
)


@contextmanager
def opened() -> Iterator[ObjectStore]:
    """Yield the system's object store.

    Raises:
        CommandFailed: it cannot be used.
    """
    try:
        yield open_store(setting("STORAGE_URL"))
    except (ValueError, StorageUnavailable) as error:
        raise CommandFailed(f"the object store cannot be used: {error}") from error


@dataclass
class Survey:
    """What a look at every object came to; sizes in bytes."""

    looked_at: int = 0
    orphans: int = 0
    orphan_bytes: int = 0


def orphans(store: ObjectStore, survey: Survey, *, older_than: timedelta = ORPHAN_AFTER) -> Iterator[ObjectStat]:
    """Yield every object that no row names and that is too old to be waiting for its row; count in ``survey``."""
    newest = datetime.now(UTC) - older_than
    for owner in OWNERS:
        keys = iter(store.keys(owner.prefix))
        while batch := list(islice(keys, _BATCH)):
            survey.looked_at += len(batch)
            for key in _unnamed(owner, batch):
                found = store.stat(key)
                if found is not None and found.stored_at <= newest:
                    survey.orphans += 1
                    survey.orphan_bytes += found.bytes
                    yield found


def _unnamed(owner: Owner, keys: Sequence[str]) -> list[str]:
    named = {row[0] for row in databases.rows(owner.service, owner.statement, keys=list(keys))}
    return [key for key in keys if key not in named]
