"""A technical pack as a file: its pictures fetched from the store, its pages drawn in a worker process."""

import atexit
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from services.gateway import tech_pack_pages
from shared.line import Line
from shared.off_hub import Pool
from shared.storage import ObjectMissing, ObjectStore

log = structlog.get_logger(__name__)

# A pack with 18 of the largest pictures takes 6 s.
_CPU_SECONDS = 15
# All are in memory at once, here and in the worker: of what is larger the small picture has to do.
_WHOLE_BYTES_MAX = 5_000_000
_pool = Pool(size=1, cpu_seconds=_CPU_SECONDS)
atexit.register(_pool.close)


def drawn(store: ObjectStore, line: Line, pack: Mapping[str, Any], *, org_id: str) -> bytes:
    """Return the PDF of a pack that has keys in place of addresses; the same pack gives the same bytes.

    Raises:
        WorkFailed: its pictures took too long or too much memory.
        Unavailable: too many pictures of the organization wait for their turn already.
        StorageUnavailable: the store does not answer.
    """
    with line.place_of(org_id):
        pictures = {one_id: data for one_id, key in _keys(pack) if (data := _bytes_of(store, key)) is not None}
        return _pool.run(tech_pack_pages.drawn, dict(pack), pictures)


def _keys(pack: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the pictures of a pack: small ones of its views, close-ups and sketches whole unless they are large."""
    for view in pack["base_views"]:
        yield view["revision"]["id"], view["revision"]["thumbnail_key"]
    for part in (*pack["close_ups"], *pack["sketches"]):
        image = part["image"]
        yield image["id"], image["key" if image["bytes"] <= _WHOLE_BYTES_MAX else "thumbnail_key"]


def _bytes_of(store: ObjectStore, key: str) -> bytes | None:
    try:
        return b"".join(store.open(key))
    except ObjectMissing:
        log.warning("picture_of_tech_pack_missing", key=key)
        return None
