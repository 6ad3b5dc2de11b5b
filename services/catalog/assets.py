"""The rules of an uploaded image: how long it is kept, what its owner is warned of. Knows no database."""

from dataclasses import dataclass
from datetime import timedelta

PURPOSES = ("room", "product", "inspiration", "face", "profile")
FACE_KEPT_FOR = timedelta(minutes=30)
SHARP_SIDE_PIXELS = 512


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A stored image that is to become an asset; sizes in bytes and pixels."""

    asset_id: str
    org_id: str
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


def kept_for(purpose: str, *, keep_original: bool) -> timedelta | None:
    """Return how long an asset is kept after its upload; None is until its owner deletes it.

    A face is personal data: without its owner's explicit wish it goes as soon as a retry is no longer likely.
    """
    return FACE_KEPT_FOR if purpose == "face" and not keep_original else None


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
