"""What is downloaded is what was promised, however often the connection breaks."""

from dataclasses import replace
from pathlib import Path

import pytest

from darkroom_client import DownloadCorrupt, Image, ServerFailed
from tests.clients.answers import an_image
from tests.clients.conftest import Play
from tests.fakes import Asked, Scripted, ScriptedServer

CONTENT = bytes(range(256)) * 4000
JPEG = {"Content-Type": "image/jpeg"}


def image_at(server: ScriptedServer, *, content: bytes = CONTENT) -> Image:
    return Image.from_json(an_image(content, url=f"{server.url}/files/1.jpg?expires=1&signature=s"))


def rest(asked: Asked) -> Scripted:
    """Answer with what is asked for, as a server of files does."""
    start = int(asked.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    headers = {**JPEG, "Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    return Scripted(status=206, body=CONTENT[start:], headers=headers)


def rest_in_pieces(asked: Asked) -> Scripted:
    """Answer likewise, but hang up after 200,000 bytes."""
    return replace(rest(asked), cut_after=200_000)


def test_an_image_is_written_to_its_file_without_showing_the_key(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(Scripted(body=CONTENT, headers=JPEG))
    told: list[tuple[int, int]] = []

    path = darkroom.images.download(
        image_at(server), tmp_path / "a.jpg", on_progress=lambda *numbers: told.append(numbers)
    )

    assert path.read_bytes() == CONTENT
    assert [each.name for each in tmp_path.iterdir()] == ["a.jpg"]
    assert "Authorization" not in server.asked[0].headers
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_in_a_folder_it_is_called_by_its_id(play: Play, tmp_path: Path) -> None:
    darkroom, server = play()
    link = image_at(server)
    server.answers = [Scripted(body=an_image(CONTENT, url=link.url)), Scripted(body=CONTENT, headers=JPEG)]

    path = darkroom.images.download("img_1", tmp_path)

    assert path == tmp_path / "img_1.jpg"
    assert server.asked[0].path == "/v1/images/img_1"


def test_a_folder_that_ends_in_a_slash_is_made(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(Scripted(body=CONTENT, headers=JPEG))

    path = darkroom.images.download(image_at(server), f"{tmp_path}/results/today/")

    assert path == tmp_path / "results" / "today" / "img_1.jpg"


def test_a_download_that_broke_off_goes_on_where_it_was(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(Scripted(body=CONTENT, headers=JPEG, cut_after=500_000), retry_seconds=0)
    server.otherwise = rest_in_pieces

    path = darkroom.images.download(image_at(server), tmp_path / "a.jpg")

    starts = [each.headers.get("Range") for each in server.asked]
    assert path.read_bytes() == CONTENT
    assert starts[0] is None
    assert len(set(starts)) == len(starts) > 3


def test_what_an_earlier_process_left_is_gone_on_with(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(Scripted(body=CONTENT, headers=JPEG, cut_after=500_000))
    with pytest.raises(ServerFailed):
        darkroom.images.download(image_at(server), tmp_path / "a.jpg")
    (part,) = tmp_path.iterdir()
    have = part.stat().st_size
    server.otherwise = rest

    path = darkroom.images.download(image_at(server), tmp_path / "a.jpg")

    assert 0 < have < len(CONTENT)
    assert server.asked[-1].headers["Range"] == f"bytes={have}-"
    assert path.read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_is_read_from_the_start(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(
        Scripted(body=CONTENT, headers=JPEG, cut_after=500_000), Scripted(body=CONTENT, headers=JPEG)
    )

    path = darkroom.images.download(image_at(server), tmp_path / "a.jpg")

    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 410])
def test_a_link_that_is_over_is_replaced(play: Play, tmp_path: Path, status: int) -> None:
    darkroom, server = play()
    link = image_at(server)
    server.answers = [
        Scripted(status=status, body={"code": "link_expired", "detail": "Over."} if status == 410 else b"<Error/>"),
        Scripted(body=an_image(CONTENT, url=link.url)),
        Scripted(body=CONTENT, headers=JPEG),
    ]

    path = darkroom.images.download(link, tmp_path / "a.jpg")

    assert path.read_bytes() == CONTENT
    assert server.asked[1].headers["Authorization"] == "Bearer sk_live_secret"


@pytest.mark.parametrize(
    "wrong", [CONTENT[:-1] + b"\x00", CONTENT + b"more"], ids=["another byte", "more than promised"]
)
def test_wrong_bytes_leave_no_file(play: Play, tmp_path: Path, wrong: bytes) -> None:
    darkroom, server = play(Scripted(body=wrong, headers=JPEG), Scripted(body=wrong, headers=JPEG))

    with pytest.raises(DownloadCorrupt, match="img_1"):
        darkroom.images.download(image_at(server), tmp_path / "a.jpg")
    with pytest.raises(DownloadCorrupt):
        darkroom.images.content(image_at(server))

    assert list(tmp_path.iterdir()) == []


def test_an_image_can_be_had_without_a_file(play: Play) -> None:
    darkroom, server = play(Scripted(body=CONTENT, headers=JPEG, cut_after=300_000))
    server.otherwise = rest

    content = darkroom.images.content(image_at(server))

    assert content == CONTENT
