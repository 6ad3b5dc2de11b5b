"""The demo's story: one photo staged end to end, told while it happens, over HTTP alone as any client would do it.

It believes nothing it is told: prices, balances, sizes and digests are checked against each other.
"""

import hashlib
import mimetypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

VARIANTS = 2
STYLE = "scandinavian"
ROOM_TYPE = "living_room"
PATIENCE_SECONDS = 180.0
POLL_SECONDS = 0.25
REQUEST_SECONDS = 20.0
ENDED = {"succeeded", "partially_succeeded", "failed", "cancelled", "expired", "rejected"}


class DemoFailed(Exception):
    """Something was not as promised; the text says what."""


@dataclass(frozen=True)
class Outcome:
    """What the story ended with: the job as the API shows it, the files written, the balance after it."""

    job: dict[str, Any]
    files: list[Path]
    available: int


class Client:
    """An outside client of the gateway: requests, JSON, and an explanation when something is refused."""

    def __init__(self, url: str, *, key: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON body of a GET."""
        return self._json("GET", path)

    def post(self, path: str, **content: Any) -> dict[str, Any]:
        """Send a POST that may safely be repeated and return its JSON body."""
        return self._json("POST", path, headers={"Idempotency-Key": uuid4().hex}, **content)

    def upload(self, photo: Path, *, purpose: str) -> dict[str, Any]:
        """Send a photo and return the asset."""
        content_type = mimetypes.guess_type(photo.name)[0] or "application/octet-stream"
        with photo.open("rb") as file:
            return self._json(
                "POST", f"/v1/uploads?purpose={purpose}", data=file, headers={"Content-Type": content_type}
            )

    def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            answer = self._session.request(method, self._url + path, timeout=REQUEST_SECONDS, **content)
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise DemoFailed(f"{method} {path}: no answer that makes sense ({type(error).__name__})") from error
        if not answer.ok:
            raise DemoFailed(f"{method} {path}: {answer.status_code} {body.get('code')}: {body.get('detail')}")
        return dict(body)


def stage(client: Client, photo: Path, *, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Stage ``photo`` in two variants, write them into ``folder``, and check everything on the way.

    Raises:
        DemoFailed: the first thing that is not as promised.
    """
    before = client.get("/v1/credits")
    say(f"the balance is {before['available']} credits")
    price = _price(client)
    say(f"{VARIANTS} staged variants at {price} credits each will cost {VARIANTS * price}")
    if before["available"] < VARIANTS * price:
        raise DemoFailed(
            f"the balance of {before['available']} credits does not pay for it; add some:"
            ' bin/darkroom credits grant ORG 1000 --reason "demo" (ORG is in credentials.json)'
        )
    asset = client.upload(photo, purpose="room")
    say(f"uploaded {photo.name}: {asset['width']} x {asset['height']} pixels, stored as {_size(asset['bytes'])}")
    job = client.post(
        "/v1/stagings",
        json={"upload_id": asset["id"], "style": STYLE, "room_type": ROOM_TYPE, "variants": VARIANTS},
    )
    say(f"job {job['id']} is accepted; {job['balance']['held']} credits are held")
    job = _finished(client, job, say=say)
    files = [_download(image, number=number, folder=folder, say=say) for number, image in enumerate(_images(job), 1)]
    after = _settled(client, held=before["held"])
    _check_money(job, before=before, after=after, cost=VARIANTS * price)
    say(f"charged {job['charged']}: the balance went from {before['available']} to {after['available']}")
    return Outcome(job=job, files=files, available=after["available"])


def _price(client: Client) -> int:
    prices = {entry["sku"]: entry for entry in client.get("/v1/pricing")["data"]}
    return int(prices["staging.variant"]["amount"])


def _finished(client: Client, job: dict[str, Any], *, say: Callable[[str], None]) -> dict[str, Any]:
    """Poll the job until it has ended, telling of each change."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    told = None
    while job["status"] not in ENDED:
        if time.monotonic() > give_up_at:
            raise DemoFailed(f"job {job['id']} is still {job['status']} after {PATIENCE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
        job = client.get(f"/v1/jobs/{job['id']}")
        news = f"{job['status']}, {job['progress']} %"
        if news != told:
            say(news)
            told = news
    if job["status"] != "succeeded":
        failures = [each["failure"]["message"] for each in job["generations"] if each["failure"]]
        raise DemoFailed(f"job {job['id']} ended {job['status']}: {'; '.join(failures) or 'no reason given'}")
    return job


def _images(job: dict[str, Any]) -> list[dict[str, Any]]:
    images = [image for generation in job["generations"] for image in generation["images"]]
    if len(images) != VARIANTS:
        raise DemoFailed(f"job {job['id']} has {len(images)} images, not {VARIANTS}")
    if len({image["sha256"] for image in images}) != VARIANTS:
        raise DemoFailed("the variants are one and the same picture")
    return images


def _download(image: dict[str, Any], *, number: int, folder: Path, say: Callable[[str], None]) -> Path:
    """Fetch one image through its signed link, with no credential, and compare it with what the API says of it."""
    try:
        answer = requests.get(image["url"], timeout=REQUEST_SECONDS)
    except requests.RequestException as error:
        raise DemoFailed(f"the link of image {image['id']} does not answer ({type(error).__name__})") from error
    if answer.status_code != HTTPStatus.OK:
        raise DemoFailed(f"the link of image {image['id']} answers {answer.status_code}: {answer.text[:200]}")
    found = (len(answer.content), hashlib.sha256(answer.content).hexdigest(), answer.headers["Content-Type"])
    promised = (image["bytes"], image["sha256"], image["content_type"])
    if found != promised:
        raise DemoFailed(f"image {image['id']} is not what the API says: {found} instead of {promised}")
    file = folder / f"staged-{number}{mimetypes.guess_extension(image['content_type']) or ''}"
    file.write_bytes(answer.content)
    say(f"downloaded variant {number} (seed {image['seed']}): {_size(image['bytes'])}, SHA-256 as promised")
    return file


def _settled(client: Client, *, held: int) -> dict[str, Any]:
    """Return the balance once nothing of this job is held any more: captures follow by event, a moment later."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while (balance := client.get("/v1/credits"))["held"] > held:
        if time.monotonic() > give_up_at:
            raise DemoFailed(f"{balance['held'] - held} credits are still held after the job has ended")
        time.sleep(POLL_SECONDS)
    return balance


def _check_money(job: dict[str, Any], *, before: dict[str, Any], after: dict[str, Any], cost: int) -> None:
    if (job["charged"], job["refunded"]) != (cost, 0):
        raise DemoFailed(f"the job charged {job['charged']} and refunded {job['refunded']} credits, not {cost} and 0")
    spent = before["available"] - after["available"]
    if spent != cost:
        raise DemoFailed(f"the balance went down by {spent} credits, not by {cost}")


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{count / 1000:.0f} kB"  # noqa: PLR2004  1 MB
