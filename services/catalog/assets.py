"""The rules of an uploaded image: how long it is kept, what its owner is warned of. Knows no database."""

from dataclasses import dataclass
from datetime import timedelta

PURPOSES = ("room", "product", "inspiration", "face", "profile")
FACE_KEPT_FOR = timedelta(minutes=30)
SHARP_SIDE_PIXELS = 512
# How long a client may send bytes to the store itself, and how long they may wait there to become an asset.
SENT_WITHIN = timedelta(hours=1)
COLLECTED_AFTER = timedelta(hours=24)
# How long bytes that are stored may wait to become the asset they were announced as; a request takes 30 s.
ANNOUNCED_FOR = timedelta(minutes=5)
# How many links an organization may have open at once, live and test keys each.
OUTSTANDING_MAX = 100


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A stored image that is to become an asset; sizes in bytes and pixels. ``livemode`` is that of the credential."""

    asset_id: str
    org_id: str
    livemode: bool
    user_id: str | None
    purpose: str
    key: str
    sha256: str
    crc32: int
    content_type: str
    bytes: int
    width: int
    height: int
    file_name: str | None = None
    keep_original: bool = False


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a client has said it will send; ``bytes`` is exact, ``sha256`` (hex) only where it was told."""

    upload_id: str
    org_id: str
    livemode: bool
    user_id: str | None
    purpose: str
    key: str
    content_type: str
    bytes: int
    sha256: str | None = None
    keep_original: bool = False


def kept_for(purpose: str, *, keep_original: bool) -> timedelta | None:
    """Return how long an asset is kept after its upload; None is until its owner deletes it.

    A face is personal data: without its owner's explicit wish it goes as soon as a retry is no longer likely.
    """
    return FACE_KEPT_FOR if purpose == "face" and not keep_original else None


def awaited_for(purpose: str) -> tuple[timedelta, timedelta]:
    """Return how long bytes may be sent, and when at the latest they are deleted if no asset was made of them.

    A face that waits is as personal as one that has arrived, and nobody has agreed that what was sent is kept.
    """
    return (FACE_KEPT_FOR / 2, FACE_KEPT_FOR) if purpose == "face" else (SENT_WITHIN, COLLECTED_AFTER)


def warnings(*, width: int, height: int) -> list[dict[str, str]]:
    """Return what the uploader should know, each ``{code, detail}``; sides in pixels."""
    if min(width, height) >= SHARP_SIDE_PIXELS:
        return []
    return [
        {
            "code": "low_resolution",
            "detail": f"The image is {width} x {height} pixels; results get visibly better "
            f"from {SHARP_SIDE_PIXELS} pixels on the shorter side.",
        }
    ]
