"""`make gallery`: a contact sheet of each product line, for a person to look at: what it makes of real photographs.

The photographs are `room`, `product` and `portrait` (JPEG, PNG, WebP) in a folder; a room of our own stands in
for a missing room. Made with a test key, so by the local provider, and for nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom_client import Darkroom, DarkroomError, Job
from deploy.local import home
from services.generation.styles import ROOM_TYPES, STYLES
from services.generation.workflows import headshot
from tools import contact_sheet, demo_room
from tools.demo import OUTPUT, running_stack
from tools.demo_story import DemoFailed
from tools.likeness import closest

PHOTOS = home.CHECKOUT.parent / "shared" / "photos"
GALLERY = OUTPUT / "gallery"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
PATIENCE_SECONDS = 300.0
POLL_SECONDS = 0.5
# How far pictures of two choices are apart at least (see `likeness`).
TOLD_APART = 2.0
_UPLOAD = "upload_id"


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A sheet: what ``workflow`` makes of ``photo`` for each of ``choices``, label -> inputs beside common ones."""

    name: str
    workflow: str
    photo: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"result": {}})
    upload: str = _UPLOAD
    purpose: str = "room"


def _each(name: str, values: Sequence[str]) -> dict[str, dict[str, str]]:
    return {value: {name: value} for value in values}


EXHIBITS = (
    Exhibit(
        name="staging-by-style",
        workflow="staging",
        photo="room",
        inputs={"room_type": "living_room", "variants": 1},
        choices=_each("style", tuple(STYLES)),
    ),
    Exhibit(
        name="staging-by-room",
        workflow="staging",
        photo="room",
        inputs={"style": "scandinavian", "variants": 1},
        choices=_each("room_type", tuple(ROOM_TYPES)),
    ),
    Exhibit(name="empty-room", workflow="empty_room", photo="room"),
    Exhibit(name="furniture-removal", workflow="furniture_removal", photo="room"),
    Exhibit(name="day-to-dusk", workflow="day_to_dusk", photo="room"),
    Exhibit(name="enhancement", workflow="enhancement", photo="room"),
    Exhibit(
        name="studio-by-style",
        workflow="studio",
        photo="product",
        inputs={"room_type": "living_room", "variants": 1, "aspect_ratio": "4:3"},
        choices=_each("style", tuple(STYLES)),
        upload="upload_ids",
        purpose="product",
    ),
    Exhibit(
        name="headshot-by-style",
        workflow="headshot",
        photo="portrait",
        choices=_each("style", tuple(headshot.STYLES)),
        purpose="face",
    ),
)
# A technical pack is shown as a whole, made of one photograph.
PACK, PACK_PHOTO = "tech-pack", "product"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "photos", nargs="?", type=Path, default=PHOTOS, metavar="PHOTOS", help="default: ../shared/photos"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make every sheet that there is a photograph for; the last line is a JSON object that names them."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)

    GALLERY.mkdir(parents=True, exist_ok=True)
    try:
        photos = photographs(arguments.photos, spare=GALLERY)
        with running_stack(say), _test_client() as darkroom:
            sheets = [sheet(darkroom, each, photos[each.photo], folder=GALLERY, say=say) for each in shown(photos, say)]
            if PACK_PHOTO in photos:
                sheets.append(pack(darkroom, photos[PACK_PHOTO], folder=GALLERY, say=say))
    except (DemoFailed, DarkroomError, OSError, RuntimeError) as error:
        print(json.dumps({"ok": False, "reason": str(error)}), flush=True)
        return 1
    print(
        json.dumps({"ok": True, "sheets": [file.relative_to(home.CHECKOUT).as_posix() for file in sheets]}), flush=True
    )
    return 0


def photographs(folder: Path, *, spare: Path) -> dict[str, Path]:
    """Return the photographs of ``folder`` by their names; a missing room is drawn into the folder ``spare``."""
    found = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in ENDINGS}
    if "room" not in found:
        found["room"] = spare / "room.jpg"
        found["room"].write_bytes(demo_room.demo_room())
    return found


def shown(photos: Mapping[str, Path], say: Callable[[str], None]) -> list[Exhibit]:
    """Return the exhibits there is a photograph for, having said which there is none for."""
    for photo in sorted({each.photo for each in EXHIBITS} - photos.keys()):
        named = [each.name for each in EXHIBITS if each.photo == photo]
        left_out = ", ".join([*named, PACK] if photo == PACK_PHOTO else named)
        say(f"there is no photograph {photo!r}: without it there is no {left_out}")
    return [each for each in EXHIBITS if each.photo in photos]


def sheet(darkroom: Darkroom, exhibit: Exhibit, photo: Path, *, folder: Path, say: Callable[[str], None]) -> Path:
    """Order everything an exhibit shows, and write its sheet into ``folder``; return the file.

    Raises:
        DemoFailed: one of the orders did not succeed, or two choices came to pictures that nobody tells apart.
        DarkroomError: a request is refused or not answered.
    """
    upload_id = darkroom.uploads.create(photo, purpose=exhibit.purpose).id
    named = {exhibit.upload: upload_id if exhibit.upload == _UPLOAD else [upload_id]}
    jobs = {
        label: darkroom.jobs.create(exhibit.workflow, {**named, **exhibit.inputs, **choice})
        for label, choice in exhibit.choices.items()
    }
    files: dict[str, Path] = {}
    for number, (label, job) in enumerate(jobs.items(), 1):
        image = _ended(darkroom, job, what=f"{exhibit.name}, {label}").images[0]
        files[label] = darkroom.images.download(image, f"{folder}/{exhibit.name}/")
        say(f"{exhibit.name}: {number} of {len(jobs)}, {label}")
    _require_told_apart(exhibit.name, files)
    out = folder / f"{exhibit.name}.jpg"
    contact_sheet.contact_sheet(original=photo, results=list(files.items()), out=out)
    return out


def pack(darkroom: Darkroom, photo: Path, *, folder: Path, say: Callable[[str], None]) -> Path:
    """Make a technical pack of the product on ``photo``; write its sheet and its PDF into ``folder``; return the sheet.

    Raises:
        DemoFailed: one of its steps did not succeed.
        DarkroomError: a request is refused or not answered.
    """
    upload_id = darkroom.uploads.create(photo, purpose="product").id
    product_id = darkroom.products.create("What is on the photograph").id
    view = darkroom.products.add_view(product_id, view_type="front", upload_id=upload_id)
    packs, pictures = darkroom.tech_packs, []
    _ended(darkroom, packs.analyze_base_views(product_id), what=f"{PACK}, base views")
    _ended(darkroom, packs.generate_close_ups(product_id), what=f"{PACK}, close-ups")
    _ended(darkroom, packs.generate_sketches(product_id), what=f"{PACK}, sketches")
    whole = packs.get(product_id)
    pictures += [(f"close-up: {one.title}", one.image) for one in whole.close_ups]
    pictures += [(f"sketch: {one.view_type}", one.image) for one in whole.sketches]
    packs.export_pdf(product_id, folder / f"{PACK}.pdf")
    anew = _ended(darkroom, packs.regenerate_view(view.id), what=f"{PACK}, view made anew")
    pictures += [("view made anew", image) for image in anew.images[:1]]
    say(f"{PACK}: {len(pictures)} pictures and a PDF")
    results = [(label, darkroom.images.download(image, f"{folder}/{PACK}/")) for label, image in pictures]
    out = folder / f"{PACK}.jpg"
    contact_sheet.contact_sheet(original=photo, results=results, out=out)
    return out


def _require_told_apart(name: str, pictures: Mapping[str, Path]) -> None:
    if len(pictures) > 1:
        apart, one, other = closest(pictures)
        if apart < TOLD_APART:
            raise DemoFailed(f"{name}: nobody can tell {one} from {other}")


def _ended(darkroom: Darkroom, job: Job, *, what: str) -> Job:
    job = darkroom.jobs.wait(job, timeout_seconds=PATIENCE_SECONDS, poll_seconds=POLL_SECONDS)
    if job.status != "succeeded":
        messages = [failure.message or failure.reason for failure in job.failures]
        raise DemoFailed(f"{what}: job {job.id} ended {job.status}: {'; '.join(messages) or 'no reason given'}")
    return job


def _test_client() -> Darkroom:
    """Return a client with a test key of the stack's first organization."""
    stack = home.find_home()
    credentials = home.read_json(stack.credentials_file)
    if credentials is None:
        raise DemoFailed(f"{stack.credentials_file} is missing; run: make down, then make up")
    with Darkroom(credentials["api_key"], base_url=credentials["gateway_url"]) as owner:
        key = owner.api_keys.create("gallery", livemode=False)
    return Darkroom(key.secret, base_url=credentials["gateway_url"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the gallery by itself."""
    parser = argparse.ArgumentParser(prog="python -m tools.gallery", description=__doc__)
    configure(parser)
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


if __name__ == "__main__":
    sys.exit(main())
