"""The demo's story: one photo staged end to end, told while it happens, with the published client as anybody would.

It believes nothing it is told: prices, balances, sizes and digests are checked against each other.
"""

import mimetypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from darkroom_client import Darkroom, Image, Job, Wallet
from tools.likeness import closest

VARIANTS = 2
SKU = "staging.variant"
STYLE = "scandinavian"
ROOM_TYPE = "living_room"
PATIENCE_SECONDS = 180.0
POLL_SECONDS = 0.25


class DemoFailed(Exception):
    """Something was not as promised; the text says what."""


@dataclass(frozen=True)
class Outcome:
    """What the story ended with: the job as the API shows it, the files written, the balance after it."""

    job: Job
    files: list[Path]
    available: int


def stage(darkroom: Darkroom, photo: Path, *, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Stage ``photo`` in two variants, write them into ``folder``, and check everything on the way.

    Raises:
        DemoFailed: the first thing that is not as promised.
        DarkroomError: a request is refused or not answered, or a file is not what the API says.
    """
    before = darkroom.credits.balance()
    say(f"the balance is {before.available} credits")
    price = _price(darkroom)
    say(f"{VARIANTS} staged variants at {price} credits each will cost {VARIANTS * price}")
    if before.available < VARIANTS * price:
        raise DemoFailed(
            f"the balance of {before.available} credits does not pay for it; add some:"
            ' bin/darkroom credits grant ORG 1000 --reason "demo" (ORG is in credentials.json)'
        )
    upload = darkroom.uploads.create(photo, purpose="room")
    say(f"uploaded {photo.name}: {upload.width} x {upload.height} pixels, stored as {_size(upload.bytes)}")
    job = darkroom.stagings.create(upload.id, style=STYLE, room_type=ROOM_TYPE, variants=VARIANTS)
    say(f"job {job.id} is accepted; {job.balance.held if job.balance else 0} credits are held")
    job = _finished(darkroom, job, say=say)
    images = _checked(job)
    files = [_download(darkroom, each, number=number, folder=folder, say=say) for number, each in enumerate(images, 1)]
    if closest({file.name: file for file in files})[0] == 0:
        raise DemoFailed("the variants are one and the same picture")
    after = _settled(darkroom, held=before.held)
    _check_money(job, before=before, after=after, cost=VARIANTS * price)
    say(f"charged {job.charged}: the balance went from {before.available} to {after.available}")
    return Outcome(job=job, files=files, available=after.available)


def _price(darkroom: Darkroom) -> int:
    prices = {price.sku: price.amount for price in darkroom.credits.pricing().data}
    if SKU not in prices:
        raise DemoFailed(f"the price book has no {SKU}")
    return prices[SKU]


def _finished(darkroom: Darkroom, job: Job, *, say: Callable[[str], None]) -> Job:
    """Wait for the job's end, telling of each change; more often than the API would have it, for people to watch."""
    job = darkroom.jobs.wait(
        job,
        timeout_seconds=PATIENCE_SECONDS,
        poll_seconds=POLL_SECONDS,
        on_progress=lambda seen: say(f"{seen.status}, {seen.progress} %"),
    )
    if job.status != "succeeded":
        messages = [failure.message or failure.reason for failure in job.failures]
        raise DemoFailed(f"job {job.id} ended {job.status}: {'; '.join(messages) or 'no reason given'}")
    return job


def _checked(job: Job) -> list[Image]:
    if len(job.images) != VARIANTS:
        raise DemoFailed(f"job {job.id} has {len(job.images)} images, not {VARIANTS}")
    return job.images


def _download(darkroom: Darkroom, image: Image, *, number: int, folder: Path, say: Callable[[str], None]) -> Path:
    """Fetch one image, whose size and digest the client compares with the promise, and look what it is."""
    suffix = mimetypes.guess_extension(image.content_type) or ""
    file = darkroom.images.download(image, folder / f"staged-{number}{suffix}")
    with PIL.Image.open(file) as picture:
        found = (picture.get_format_mimetype(), *picture.size)
    promised = (image.content_type, image.width, image.height)
    if found != promised:
        raise DemoFailed(f"image {image.id} is not what the API says: {found} instead of {promised}")
    say(f"downloaded variant {number} (seed {image.seed}): {_size(image.bytes)}, SHA-256 as promised")
    return file


def _settled(darkroom: Darkroom, *, held: int) -> Wallet:
    """Return the balance once nothing of this job is held any more: captures follow by event, a moment later."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while (balance := darkroom.credits.balance()).held > held:
        if time.monotonic() > give_up_at:
            raise DemoFailed(f"{balance.held - held} credits are still held after the job has ended")
        time.sleep(POLL_SECONDS)
    return balance


def _check_money(job: Job, *, before: Wallet, after: Wallet, cost: int) -> None:
    if (job.charged, job.refunded) != (cost, 0):
        raise DemoFailed(f"the job charged {job.charged} and refunded {job.refunded} credits, not {cost} and 0")
    spent = before.available - after.available
    if spent != cost:
        raise DemoFailed(f"the balance went down by {spent} credits, not by {cost}")


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{count / 1000:.0f} kB"  # noqa: PLR2004  1 MB
