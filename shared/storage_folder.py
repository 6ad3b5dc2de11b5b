"""The object store in a folder, for one machine: an object appears whole, durable and once, or not at all."""

import atexit
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

from eventlet import patcher, tpool

from shared.gathering import Gathering
from shared.off_hub import Pool, WorkFailed
from shared.storage import (
    READ_BYTES,
    NewObject,
    ObjectMissing,
    ObjectStat,
    StorageUnavailable,
    StoredObject,
    TooLarge,
    checked_content_type,
    checked_key,
    checked_prefix,
    checked_range,
    content_type_of,
    measured,
    same_or_taken,
)
from shared.storage_writing import Written, link, sync_folder, write_all

INCOMING = ".incoming"  # no key starts with a dot
# Nobody writes to a file so seldom; and of a face no more than this may be left over.
LEFTOVER_SECONDS = 20 * 60
# So much is written together at most; a larger object goes alone.
TOGETHER_BYTES = 8_000_000
T = TypeVar("T")


class FolderStore:
    """An ObjectStore whose objects are plain files below ``root``, at the path their key gives."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._incoming = self._root / INCOMING
        self._writing: Gathering[int, list[tuple[str, bytes]], list[Written]] = Gathering(
            self._write_together, most=TOGETHER_BYTES, size=_bytes_of
        )
        with _disk("make the folders of"):
            self._incoming.mkdir(parents=True, exist_ok=True)
        self.drop_leftovers()

    def put(
        self, *, key: str, chunks: Iterable[bytes] | bytes, content_type: str, max_bytes: int | None = None
    ) -> StoredObject:
        """Write aside, then link into place: no crash leaves a partial object, and a taken key stays as it is."""
        if isinstance(chunks, bytes):
            new = _checked(NewObject(key=key, data=chunks, content_type=content_type), max_bytes)
            (written,) = _done(_beside(write_all, str(self._incoming), [(str(self._path(key)), chunks)]))
            return self._stored(new, written)
        target = self._path(key)
        checked_content_type(key=key, content_type=content_type)
        offered, is_new = self._put(target, key=key, chunks=chunks, max_bytes=max_bytes)
        return offered if is_new else same_or_taken(self.measure(key), offered)

    def put_together(self, objects: Sequence[NewObject], *, max_bytes: int | None = None) -> list[StoredObject]:
        """Write them in one go, with what others want written at the same time."""
        several = [_checked(new, max_bytes) for new in objects]
        written = self._writing(0, [(str(self._path(new.key)), new.data) for new in several])
        return [self._stored(new, each) for new, each in zip(several, written, strict=True)]

    def _stored(self, new: NewObject, written: Written) -> StoredObject:
        offered = StoredObject(
            key=new.key,
            bytes=written.bytes,
            sha256=written.sha256,
            crc32=written.crc32,
            content_type=new.content_type,
        )
        return offered if written.is_new else same_or_taken(self.measure(new.key), offered)

    def _write_together(self, _: int, several: Sequence[list[tuple[str, bytes]]]) -> list[list[Written]]:
        written = iter(_done(_elsewhere(str(self._incoming), [each for objects in several for each in objects])))
        return [[next(written) for _ in objects] for objects in several]

    def _put(
        self, target: Path, *, key: str, chunks: Iterable[bytes], max_bytes: int | None
    ) -> tuple[StoredObject, bool]:
        """Return what was written, and whether the name was free for it."""
        aside = self._incoming / uuid4().hex
        try:
            with _disk("write to"):
                file = aside.open("xb")
            with file:
                offered = measured(
                    key=key,
                    chunks=chunks,
                    content_type=content_type_of(key),
                    write=_writer(file),
                    max_bytes=max_bytes,
                )
                with _disk("write to"):
                    file.flush()
                    _beside(os.fsync, file.fileno())
            with _disk("write to"):
                return offered, _beside(_linked, aside, target)
        finally:
            with suppress(OSError):  # gone, or the disk is failing and the error on its way up says so
                aside.unlink()

    def open(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes of the range; the file closes once they are exhausted or the iterator is closed."""
        checked_range(start=start, end=end)
        reader = _read(self._path(key), start=start, end=end)
        next(reader)  # opens the file, so that a missing object shows here
        return reader

    def stat(self, key: str) -> ObjectStat | None:
        """Return what the file system says."""
        path = self._path(key)
        with _disk("read from"):
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
        return ObjectStat(
            key=key,
            bytes=found.st_size,
            content_type=content_type_of(key),
            stored_at=datetime.fromtimestamp(found.st_mtime, UTC),
        )

    def measure(self, key: str) -> StoredObject:
        """Read the file through and return its size and digests."""
        return measured(key=key, chunks=self.open(key), content_type=content_type_of(key), write=len, max_bytes=None)

    def delete(self, key: str) -> None:
        """Remove the file, durably."""
        path = self._path(key)
        with _disk("delete from"):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _beside(sync_folder, path.parent)

    def upload_form(self, *, key: str, content_type: str, size: int, seconds: int) -> None:  # noqa: ARG002  no use here
        """Return None: a folder has no address of its own."""
        checked_key(key)

    def drop_leftovers(self) -> None:
        """Remove files that were written aside and not for a while; some of them are whole, and an object's as well."""
        with _disk("clear"):
            for aside in self._incoming.iterdir():
                with suppress(FileNotFoundError):
                    if aside.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                        aside.unlink()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Walk the folders; objects that come or go meanwhile may or may not be seen."""
        first_folder = self._root / checked_prefix(prefix).rpartition("/")[0]
        with _disk("list"):
            for folder, folders, names in os.walk(first_folder):
                folders[:] = [name for name in folders if name != INCOMING]
                found = (Path(folder, name).relative_to(self._root).as_posix() for name in names)
                yield from (key for key in found if key.startswith(prefix))

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)


def _checked(new: NewObject, max_bytes: int | None) -> NewObject:
    checked_content_type(key=checked_key(new.key), content_type=new.content_type)
    if max_bytes is not None and len(new.data) > max_bytes:
        raise TooLarge(f"{new.key} is larger than {max_bytes} bytes")
    return new


def _bytes_of(objects: Sequence[tuple[str, bytes]]) -> int:
    return sum(len(data) for _, data in objects)


def _done(written: list[Written] | str) -> list[Written]:
    if isinstance(written, str):
        raise StorageUnavailable(f"cannot write to the storage folder: {written}")
    return written


def _linked(aside: Path, target: Path) -> bool:
    """Give the finished file its name, for good; False where the name is taken."""
    is_new = link(aside, target)
    if is_new:
        sync_folder(target.parent)
    return is_new


def _writer(file: BinaryIO) -> Callable[[bytes], None]:
    def write(piece: bytes) -> None:
        with _disk("write to"):
            file.write(piece)

    return write


def _read(path: Path, *, start: int, end: int | None) -> Iterator[bytes]:
    """Yield one empty piece once the file is open, then the bytes of the range."""
    with _disk("read from"):
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise ObjectMissing(f"no object {path.name}") from None
        with file:
            yield b""
            file.seek(start)
            position = start
            while piece := file.read(READ_BYTES if end is None else min(READ_BYTES, end - position)):
                position += len(piece)
                yield piece


@contextmanager
def _disk(doing: str) -> Iterator[None]:
    """Tell an operator what the disk refused; the code above it need not know errno."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"cannot {doing} the storage folder: {error.strerror or error}") from error


def _elsewhere(incoming: str, objects: list[tuple[str, bytes]]) -> list[Written] | str:
    """Write objects in a process beside green threads.

    A thread would do for a single one. Of many, each step lets go of the interpreter's lock and waits for it anew,
    which takes both the thread and the green ones longer than the writing does.
    """
    if not patcher.is_monkey_patched("thread"):
        return write_all(incoming, objects)
    try:
        return _writer_process.run(write_all, incoming, objects)
    except WorkFailed as error:
        raise StorageUnavailable("the process that writes to the storage folder took too long, or ended") from error


def _beside(work: Callable[..., T], *arguments: Any) -> T:
    """Run what waits for the disk in a thread beside green threads, since a slow disk would stop them all."""
    if patcher.is_monkey_patched("thread"):
        done: T = tpool.execute(work, *arguments)
        return done
    return work(*arguments)


_writer_process = Pool(size=1, writes_files=True)
atexit.register(_writer_process.close)
