"""A client that never gives up: each request carries its Idempotency-Key and is sent again until it is answered."""

import hashlib
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from shared.ids import new_id

SENDS_AT_ONCE = 8
PATIENCE_SECONDS = 90.0


@dataclass
class Client:
    """One organization's client, keeping a log of what it was promised."""

    gateway_url: str
    api_key: str
    org_id: str = ""
    accepted: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    sent_again: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def upload(self, number: int = 0) -> str:
        """Upload a small photo, another one for each ``number``; return its id."""
        answer = self._send(
            "POST", "/v1/uploads?purpose=room", data=small_photo(number), headers={"Content-Type": "image/jpeg"}
        )
        return str(answer.json()["id"])

    def upload_as_form(self) -> str:
        """Upload a small photo as a browser's form does; return its id."""
        answer = self._send(
            "POST", "/v1/uploads?purpose=room", files={"file": ("room.jpg", small_photo(), "image/jpeg")}
        )
        return str(answer.json()["id"])

    def stage_many(self, upload_id: str, *, count: int, variants: int = 1) -> threading.Thread:
        """Send ``count`` staging jobs from several threads; return the thread that does it."""

        def send_all() -> None:
            with ThreadPoolExecutor(SENDS_AT_ONCE) as pool:
                for _ in range(count):
                    pool.submit(self._stage, upload_id, variants)

        thread = threading.Thread(target=send_all)
        thread.start()
        return thread

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as it stands."""
        found: dict[str, Any] = self._send("GET", f"/v1/jobs/{job_id}").json()
        return found

    def wallet(self) -> dict[str, Any]:
        """Return the balance."""
        found: dict[str, Any] = self._send("GET", "/v1/credits").json()
        return found

    def images(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the images of a finished job."""
        return [image for generation in job["generations"] for image in generation["images"]]

    def is_whole(self, image: dict[str, Any]) -> bool:
        """Download an image by its signed link and compare it with what was promised."""
        body = requests.get(image["url"], timeout=30).content
        return len(body) == image["bytes"] and hashlib.sha256(body).hexdigest() == image["sha256"]

    def pixels(self, image: dict[str, Any]) -> bytes:
        """Download an image and return what it shows, decoded: each file differs, since it says which image it is."""
        with Image.open(io.BytesIO(requests.get(image["url"], timeout=30).content)) as picture:
            return picture.convert("RGB").tobytes()

    def _stage(self, upload_id: str, variants: int) -> None:
        body = {"upload_id": upload_id, "style": "modern", "room_type": "living_room", "variants": variants}
        answer = self._send("POST", "/v1/stagings", json=body)
        with self._lock:
            if answer.status_code in {200, 202}:
                self.accepted.append(answer.json()["id"])
            else:
                self.refused.append(answer.status_code)

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send until an answer comes that is not "try again"; the key makes that safe."""
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Idempotency-Key": new_id("key"),
            **arguments.pop("headers", {}),
        }
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = requests.request(method, self.gateway_url + path, headers=headers, timeout=10, **arguments)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code not in {409, 429, 500, 502, 503}:
                return answer
            if time.monotonic() > give_up:
                said = "nothing" if answer is None else f"{answer.status_code} {answer.text[:200]}"
                raise TimeoutError(f"{method} {path} was not answered in {PATIENCE_SECONDS:.0f} s, last: {said}")
            with self._lock:
                self.sent_again += 1
            time.sleep(0.3)


def small_photo(number: int = 0) -> bytes:
    """Return a JPEG of 320 x 240 pixels, another one for each ``number``: the same photo is the same upload."""
    picture = io.BytesIO()
    view = (-2.0 - number / 100, -1.5, 1.0, 1.5)
    Image.effect_mandelbrot((320, 240), view, 60).convert("RGB").save(picture, "JPEG")
    return picture.getvalue()


def new_organization(gateway_url: str, admin_key: str, *, credits_granted: int, plan: str = "pro") -> Client:
    """Make an organization with a balance on a plan; return its client."""
    answer = requests.post(
        f"{gateway_url}/v1/admin/organizations",
        headers={"Authorization": f"Bearer {admin_key}", "Idempotency-Key": new_id("key")},
        json={"name": "Fault test", "credits": credits_granted, "plan": plan},
        timeout=20,
    )
    answer.raise_for_status()
    made = answer.json()
    return Client(gateway_url=gateway_url, api_key=made["api_key"], org_id=made["id"])


def credentials(home: Path) -> dict[str, str]:
    """Return what `make up` wrote for its first owner and the operator."""
    found: dict[str, str] = json.loads((home / "credentials.json").read_text())
    return found
