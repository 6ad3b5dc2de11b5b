"""The gallery shows what there is a photograph for, says what it leaves out, and no picture twice."""

from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from services.generation.workflows import registered, workflow
from tests.fakes import OneShotDarkroom
from tools import gallery
from tools.demo_story import DemoFailed
from tools.gallery import EXHIBITS, Exhibit


def a_photo(folder: Path, name: str, colour: str = "teal") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    PIL.Image.new("RGB", (64, 48), colour).save(file)
    return file


def test_every_exhibit_orders_what_its_workflow_takes() -> None:
    for exhibit in EXHIBITS:
        line = workflow(exhibit.workflow)
        assert exhibit.upload in line.assets
        upload = "ast_1" if exhibit.upload == "upload_id" else ["ast_1"]
        for choice in exhibit.choices.values():
            line.inputs().load({exhibit.upload: upload, **exhibit.inputs, **choice})


def test_every_product_line_that_makes_images_of_an_upload_is_shown() -> None:
    of_products = {name for name in registered() if name.startswith("tech_pack_")}  # shown as one whole pack
    without_images = {"photo_analysis"}

    assert {exhibit.workflow for exhibit in EXHIBITS} == set(registered()) - of_products - without_images


def test_what_there_is_no_photograph_for_is_left_out_and_named(tmp_path: Path) -> None:
    a_photo(tmp_path / "photos", "room.PNG")
    (tmp_path / "photos" / "README.md").write_text("no photo")
    said: list[str] = []

    photos = gallery.photographs(tmp_path / "photos", spare=tmp_path)
    shown = gallery.shown(photos, said.append)

    assert photos.keys() == {"room"}
    assert {exhibit.photo for exhibit in shown} == {"room"}
    assert any("'product'" in line and "studio-by-style, tech-pack" in line for line in said)
    assert any("'portrait'" in line and "headshot-by-style" in line for line in said)


def test_without_a_folder_a_room_of_our_own_is_shown(tmp_path: Path) -> None:
    photos = gallery.photographs(tmp_path / "nowhere", spare=tmp_path)

    with PIL.Image.open(photos["room"]) as room:
        assert min(room.size) >= 480


def test_a_sheet_shows_every_choice(tmp_path: Path) -> None:
    photo = a_photo(tmp_path, "room.jpg")
    darkroom: Any = OneShotDarkroom([a_photo(tmp_path, "1.jpg", "teal"), a_photo(tmp_path, "2.jpg", "tan")])
    exhibit = Exhibit(
        name="two", workflow="staging", photo="room", inputs={"variants": 1}, choices={"x": {"s": 1}, "y": {"s": 2}}
    )

    sheet = gallery.sheet(darkroom, exhibit, photo, folder=tmp_path, say=lambda _: None)

    assert darkroom.ordered == [
        ("staging", {"upload_id": "ast_1", "variants": 1, "s": 1}),
        ("staging", {"upload_id": "ast_1", "variants": 1, "s": 2}),
    ]
    with PIL.Image.open(sheet) as shown:
        assert shown.width == 3 * 660 + 20  # the original and both


@pytest.mark.parametrize(
    ("colours", "status", "why"),
    [
        (["teal", "teal"], "succeeded", "tell x from y"),
        (["rgb(90, 90, 90)", "rgb(90, 91, 90)"], "succeeded", "tell x from y"),
        (["teal", "tan"], "failed", "ended failed"),
    ],
)
def test_what_fails_or_cannot_be_told_apart_is_no_exhibit(
    tmp_path: Path, colours: list[str], status: str, why: str
) -> None:
    pictures = [a_photo(tmp_path, f"{number}.png", colour) for number, colour in enumerate(colours)]
    darkroom: Any = OneShotDarkroom(pictures, status=status)
    exhibit = Exhibit(name="two", workflow="staging", photo="room", choices={"x": {}, "y": {}})

    with pytest.raises(DemoFailed, match=why):
        gallery.sheet(darkroom, exhibit, pictures[0], folder=tmp_path, say=lambda _: None)
