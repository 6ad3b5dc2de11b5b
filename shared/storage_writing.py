"""Writing whole objects into a store's folder, many at a time: each appears whole, durable and once, or not at all.

It waits for the disk, so it runs in a thread or, better, a process beside green threads: see `shared.storage_folder`.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written, as measured; where the name was taken it is not ``is_new``, and what was there is still."""

    bytes: int
    sha256: str
    crc32: int
    is_new: bool


def write_all(incoming: str, objects: list[tuple[str, bytes]]) -> list[Written] | str:
    """Write objects, each to the path it comes with; those that are new are on the disk when this returns.

    Args:
        incoming: a folder of the same file system, where they are until they are whole.
        objects: paths, and what is to be there.

    Returns:
        Of each what was written; or why the disk refused, and then any of them may be there, whole, or not.
    """
    asides = [os.path.join(incoming, uuid4().hex) for _ in objects]  # noqa: PTH118  a Path for each costs as much as all else
    try:
        _write(asides, [data for _, data in objects])
        are_new = [link(aside, path) for aside, (path, _) in zip(asides, objects, strict=True)]
        sync_folders(path for (path, _), is_new in zip(objects, are_new, strict=True) if is_new)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for aside in asides:
            with suppress(OSError):  # not begun, or the disk is failing, of which the caller is told already
                os.unlink(aside)  # noqa: PTH108  as above
    return [_measured(data, is_new=is_new) for (_, data), is_new in zip(objects, are_new, strict=True)]


def link(aside: str | Path, path: str | Path) -> bool:
    """Give a finished file its name, making the folders on the way; False where the name is taken."""
    folder = os.path.dirname(path)  # noqa: PTH120  as above
    if not os.path.isdir(folder):  # noqa: PTH112  as above
        make_folders(Path(folder))
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    return True


def make_folders(folder: Path) -> None:
    """Make ``folder`` and its parents, each durable before something is put into it."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folders(paths: Iterable[str]) -> None:
    """Wait until the disk has the names of these files, each folder once."""
    for folder in dict.fromkeys(os.path.dirname(path) for path in paths):  # noqa: PTH120  as above
        sync_folder(folder)


def sync_folder(folder: str | Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(asides: Sequence[str], contents: Sequence[bytes]) -> None:
    """Write files, all of them first: while it is waited for one the disk is at the others already."""
    descriptors: list[int] = []
    try:
        for aside, data in zip(asides, contents, strict=True):
            descriptors.append(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            _write_whole(descriptors[-1], data)
        for descriptor in descriptors:
            os.fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _write_whole(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _measured(data: bytes, *, is_new: bool) -> Written:
    return Written(bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), crc32=zlib.crc32(data), is_new=is_new)
