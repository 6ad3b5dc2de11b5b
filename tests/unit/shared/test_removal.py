"""Removing the bytes of many things, some of which the store keeps."""

import pytest

from shared.removal import remove, sweep
from shared.storage import ObjectStore, StorageUnavailable
from shared.storage_folder import FolderStore


class Stubborn(FolderStore):
    """A folder that says it deletes, and keeps what it is told to; ``asked`` counts what it was to delete."""

    kept: frozenset[str] = frozenset()
    asked = 0

    def delete(self, key: str) -> None:
        self.asked += 1
        if key not in self.kept:
            super().delete(key)


@pytest.fixture
def store(tmp_path):
    return Stubborn(tmp_path)


def stored(store: ObjectStore, count: int) -> dict[str, list[str]]:
    things = {f"thing_{number:02}": [f"images/org/{number:02}.jpg"] for number in range(count)}
    for (key,) in things.values():
        store.put(key=key, chunks=b"bytes", content_type="image/jpeg")
    return things


def swept(store: ObjectStore, things: dict[str, list[str]], *, batch: int = 10) -> int:
    """Sweep, forgetting what is gone; what is due comes in one order, always."""

    def record(gone: list[str]) -> None:
        for one in gone:
            del things[one]

    return sweep(store, due=lambda most: list(things.items())[:most], record=record, what="thing", batch=batch)


def test_all_that_is_due_goes_however_much_it_is(store):
    things = stored(store, 25)

    assert swept(store, things) == 25

    assert things == {}
    assert list(store.keys()) == []


def test_what_the_store_keeps_holds_nothing_else_back_and_stays_due(store):
    things = stored(store, 8)
    store.kept = frozenset({"images/org/00.jpg", "images/org/03.jpg"})

    assert swept(store, things) == 6

    assert sorted(things) == ["thing_00", "thing_03"]


def test_a_store_that_deletes_nothing_is_not_asked_on_and_on(store):
    things = stored(store, 20)
    store.kept = frozenset(key for keys in things.values() for key in keys)

    assert swept(store, things) == 0

    assert store.asked == 3


def test_what_is_there_still_is_not_called_removed(store):
    ((key,),) = stored(store, 1).values()
    store.kept = frozenset({key})

    with pytest.raises(StorageUnavailable, match="there still"):
        remove(store, [key])
