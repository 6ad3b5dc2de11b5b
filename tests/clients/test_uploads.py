"""Photos go out whole, from wherever they come, and with the right type."""

from io import BytesIO
from pathlib import Path

import pytest
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from tests.clients.answers import UPLOAD
from tests.clients.conftest import Play
from tests.fakes import Scripted

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 600
STORED = Scripted(status=201, body={**UPLOAD, "warnings": [{"code": "low_resolution", "detail": "Small."}]})


class OneWay(BytesIO):
    """A file that cannot be read twice, as a pipe is."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("this is a pipe")


def test_bytes_a_path_and_files_are_sent_as_they_are(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(*[STORED] * 5)
    path = tmp_path / "room.bin"
    path.write_bytes(JPEG)

    darkroom.uploads.create(JPEG)
    darkroom.uploads.create(path)
    darkroom.uploads.create(str(path))
    darkroom.uploads.create(OneWay(JPEG))
    with path.open("rb") as file:
        darkroom.uploads.create(file)

        assert not file.closed
    assert [each.body for each in server.asked] == [JPEG] * 5
    assert {each.headers["Content-Type"] for each in server.asked} == {"image/jpeg"}


def test_a_file_is_read_from_where_it_stands(play: Play) -> None:
    darkroom, server = play(None, STORED)
    file = BytesIO(b"before" + JPEG)
    file.seek(6)

    darkroom.uploads.create(file)

    assert [each.body for each in server.asked] == [JPEG] * 2


@pytest.mark.parametrize(
    ("head", "name", "told"),
    [
        (b"\x89PNG\r\n\x1a\n", "x", "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBP", "x", "image/webp"),
        (b"\xff\xd8\xff\xe0", "wrong.png", "image/jpeg"),
        (b"anything", "room.png", "image/png"),
        (b"anything", "x", "application/octet-stream"),
    ],
)
def test_the_type_is_that_of_the_content(play: Play, tmp_path: Path, head: bytes, name: str, told: str) -> None:
    darkroom, server = play(STORED)
    (tmp_path / name).write_bytes(head)

    darkroom.uploads.create(tmp_path / name)

    assert server.asked[0].headers["Content-Type"] == told


def test_a_type_that_is_given_counts(play: Play) -> None:
    darkroom, server = play(STORED)

    darkroom.uploads.create(JPEG, content_type="image/webp", purpose="face", keep_original=True)

    assert server.asked[0].headers["Content-Type"] == "image/webp"
    assert server.asked[0].query == {"purpose": "face", "keep_original": "true"}


def test_a_form_holds_the_photo_under_its_name(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(STORED)
    path = tmp_path / 'the "big" rööm.jpg'
    path.write_bytes(JPEG)

    darkroom.uploads.create(path, multipart=True)

    asked = server.asked[0]
    kind, options = parse_options_header(asked.headers["Content-Type"])
    parser = FormDataParser(stream_factory=lambda *_, **__: BytesIO(), silent=False)
    _, fields, files = parser.parse(BytesIO(asked.body), kind, len(asked.body), dict(options))
    assert (kind, list(fields), list(files)) == ("multipart/form-data", [], ["file"])
    assert (files["file"].read(), files["file"].content_type) == (JPEG, "image/jpeg")
    assert files["file"].filename == 'the "big" rööm.jpg'


def test_a_form_sent_again_is_the_same_form(play: Play) -> None:
    darkroom, server = play(None, STORED)

    darkroom.uploads.create(JPEG, multipart=True)

    assert server.asked[0].body == server.asked[1].body


def test_progress_runs_from_nothing_to_everything(play: Play) -> None:
    darkroom, _ = play(STORED)
    told: list[tuple[int, int]] = []

    darkroom.uploads.create(JPEG, on_progress=lambda *numbers: told.append(numbers))

    sent = [numbers[0] for numbers in told]
    assert (sent[0], sent[-1], sent) == (0, len(JPEG), sorted(sent))
    assert {numbers[1] for numbers in told} == {len(JPEG)}
    assert len(told) > 2


def test_what_is_odd_about_a_photo_is_passed_on(play: Play) -> None:
    darkroom, _ = play(STORED)

    upload = darkroom.uploads.create(JPEG)

    assert upload.warnings == [{"code": "low_resolution", "detail": "Small."}]


@pytest.mark.parametrize("multipart", [False, True])
def test_an_empty_photo_is_not_sent(play: Play, multipart: bool) -> None:  # noqa: FBT001  pytest gives it by name
    darkroom, server = play()

    with pytest.raises(ValueError, match="empty"):
        darkroom.uploads.create(b"", multipart=multipart)

    assert server.asked == []
