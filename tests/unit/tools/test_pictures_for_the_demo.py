"""The room the demo draws where no photo is given, and the sheet it shows its results on."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import contact_sheet, demo_room


@pytest.fixture(scope="module")
def room() -> bytes:
    return demo_room.demo_room()


def a_picture(path: Path, colour: str, size: tuple[int, int] = (400, 300)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def test_the_room_is_a_photo_sized_jpeg_that_is_small_enough_to_send(room: bytes) -> None:
    picture = Image.open(io.BytesIO(room))

    assert (picture.format, picture.size) == ("JPEG", (1600, 1200))
    assert len(room) < 300_000


def test_the_room_has_a_light_wall_a_wooden_floor_and_a_bright_window(room: bytes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(room)), np.float64)

    wall, floor, window = pixels[500:600, 700:900], pixels[1000:1100, 300:1300], pixels[420:460, 100:180]
    assert wall.mean() > 150
    assert np.ptp(wall.mean((0, 1))) < 12
    assert floor[..., 0].mean() - floor[..., 2].mean() > 40
    assert window.mean() > 230


def test_the_room_is_drawn_the_same_every_time(room: bytes) -> None:
    assert demo_room.demo_room() == room


def test_the_room_is_written_where_it_is_asked_for(tmp_path: Path, room: bytes) -> None:
    assert demo_room.main([str(tmp_path / "room.jpg")]) == 0

    assert (tmp_path / "room.jpg").read_bytes() == room


def test_asked_for_no_file_it_says_how_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_room.main([]) == 2
    assert contact_sheet.main(["sheet.jpg"]) == 2

    told = capsys.readouterr().err
    assert "python -m tools.demo_room OUT.jpg" in told
    assert "python -m tools.contact_sheet OUT.jpg" in told


def test_the_sheet_shows_the_original_first_and_every_result(tmp_path: Path) -> None:
    original = a_picture(tmp_path / "room.png", "red")
    results = [(f"modern {number}", a_picture(tmp_path / f"{number}.png", "blue")) for number in range(3)]

    contact_sheet.contact_sheet(original=original, results=results, out=tmp_path / "sheet.png")

    sheet = Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes()))
    tile, gap, row = 640, 20, 480 + 44
    assert sheet.size == (3 * (tile + gap) + gap, 2 * (row + gap) + gap)
    middles = [(gap + column * (tile + gap) + tile // 2, gap + 240) for column in range(3)]
    assert [sheet.getpixel(middle) for middle in middles] == [(255, 0, 0), (0, 0, 255), (0, 0, 255)]
    assert sheet.getpixel((gap + tile // 2, gap + row + gap + 240)) == (0, 0, 255)


def test_pictures_of_different_shapes_keep_theirs(tmp_path: Path) -> None:
    original = a_picture(tmp_path / "room.png", "red", (400, 300))
    upright = a_picture(tmp_path / "upright.png", "blue", (300, 400))

    assert contact_sheet.main([str(tmp_path / "sheet.png"), str(original), f"upright={upright}"]) == 0

    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 20 + 853 + 44 + 20
