"""Removing the bytes of many things: what cannot be removed keeps no other back, and a store that is down is let be."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from shared.storage import ObjectStore, StorageUnavailable

log = structlog.get_logger(__name__)

# The id of something, and under which keys its bytes are.
Due = tuple[str, Sequence[str]]

BATCH: Final = 50
# One sweep goes on for so many batches, while there is more: whatever is due at once is gone in time.
_MOST_BATCHES: Final = 100
# One object may be kept by a lock or a wrong permission; of three it is the store that does not answer.
_MOST_FAILURES: Final = 3


def remove(store: ObjectStore, keys: Iterable[str]) -> None:
    """Delete objects, and look whether they are gone: receipts say so.

    Raises:
        StorageUnavailable: the store does not answer, or has one of them still.
    """
    for key in keys:
        store.delete(key)
        if store.stat(key) is not None:
            raise StorageUnavailable(f"{key} was deleted and is there still")


def sweep(
    store: ObjectStore,
    *,
    due: Callable[[int], Sequence[Due]],
    record: Callable[[list[str]], None],
    what: str,
    batch: int = BATCH,
) -> int:
    """Remove all that is due, batch by batch; return of how many things.

    Args:
        store: where the bytes are.
        due: gives up to so many things that are due, in no fixed order: what cannot be removed is not always first.
        record: writes down which of them are gone, so that they are due no more. No transaction is open in between.
        what: what they are, for the log.
        batch: how many at a time.
    """
    count = 0
    for _ in range(_MOST_BATCHES):
        gone = _removed(store, due(batch), what=what)
        if gone:
            record(gone)
        count += len(gone)
        if len(gone) < batch:
            break
    return count


def _removed(store: ObjectStore, due: Iterable[Due], *, what: str) -> list[str]:
    """Remove the objects of each; return the ids of those whose objects are gone."""
    gone, failures = [], 0
    for one, keys in due:
        try:
            remove(store, keys)
        except StorageUnavailable as error:
            log.warning("removal_postponed", what=what, id=one, error=str(error))
            failures += 1
            if failures == _MOST_FAILURES:
                break
        else:
            gone.append(one)
    return gone
