"""Photos go out whole, from wherever they come, and with the right type."""

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from darkroom_client import InvalidRequest, LinkRefused
from tests.clients.answers import UPLOAD, a_problem
from tests.clients.conftest import Play
from tests.fakes import Scripted, ScriptedServer

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


PUT_LINK = {
    "upload_id": "ast_1",
    "method": "PUT",
    "headers": {"Content-Type": "image/jpeg"},
    "expires_at": "2026-01-01T00:00:00Z",
}


def by_link(server: ScriptedServer, link: dict[str, Any], *sent: Scripted | None) -> None:
    """Script a presigned upload whose link leads to the same server."""
    announced = Scripted(status=201, body={**link, "url": f"{server.url}/files/1?signature=s"})
    server.answers = [announced, *sent, STORED]


def test_a_photo_goes_to_the_store_by_its_link_and_is_completed(play: Play) -> None:
    darkroom, server = play()
    by_link(server, PUT_LINK, Scripted(status=201))
    told: list[tuple[int, int]] = []

    upload = darkroom.uploads.create(
        JPEG, purpose="face", presigned=True, on_progress=lambda *numbers: told.append(numbers), idempotency_key="k"
    )

    presign, sent, complete = server.asked
    assert upload.id == "ast_1"
    assert (presign.path, presign.headers["Idempotency-Key"]) == ("/v1/uploads/presign", "k")
    assert json.loads(presign.body) == {
        "purpose": "face",
        "content_type": "image/jpeg",
        "bytes": len(JPEG),
        "sha256": hashlib.sha256(JPEG).hexdigest(),
    }
    assert (sent.method, sent.path, sent.query) == ("PUT", "/files/1", {"signature": "s"})
    assert (sent.body, sent.headers["Content-Type"]) == (JPEG, "image/jpeg")
    assert "Authorization" not in sent.headers
    assert (complete.method, complete.path) == ("POST", "/v1/uploads/ast_1/complete")
    assert told[-1] == (len(JPEG), len(JPEG))


def test_a_store_that_wants_a_form_gets_its_fields_and_then_the_file(play: Play) -> None:
    darkroom, server = play()
    fields = {"key": "assets/1.jpg", "policy": "cG9saWN5", "x-amz-signature": "0f"}
    link = {"upload_id": "ast_1", "method": "POST", "fields": fields, "expires_at": "2026-01-01T00:00:00Z"}
    by_link(server, link, Scripted(status=204))

    darkroom.uploads.create(JPEG, presigned=True)

    sent = server.asked[1]
    kind, options = parse_options_header(sent.headers["Content-Type"])
    parser = FormDataParser(stream_factory=lambda *_, **__: BytesIO(), silent=False)
    _, given, files = parser.parse(BytesIO(sent.body), kind, len(sent.body), dict(options))
    assert (sent.method, given.to_dict(), files["file"].read()) == ("POST", fields, JPEG)
    assert sent.body.rindex(b'name="x-amz-signature"') < sent.body.index(b'name="file"')


def test_what_the_store_did_not_answer_is_sent_again_whole(play: Play) -> None:
    darkroom, server = play()
    by_link(server, PUT_LINK, None, Scripted(status=503, body=b"<Error/>"), Scripted(status=201))

    darkroom.uploads.create(OneWay(JPEG), presigned=True)

    assert [each.body for each in server.asked if each.path == "/files/1"] == [JPEG] * 3


def test_what_the_store_refuses_is_not_completed(play: Play) -> None:
    darkroom, server = play()
    by_link(server, PUT_LINK, Scripted(status=403, body={"code": "link_expired", "detail": "Over."}))

    with pytest.raises(LinkRefused):
        darkroom.uploads.create(JPEG, presigned=True)

    assert [each.path for each in server.asked] == ["/v1/uploads/presign", "/files/1"]


def test_a_photo_goes_one_way(play: Play) -> None:
    darkroom, server = play()

    with pytest.raises(ValueError, match="multipart or presigned"):
        darkroom.uploads.create(JPEG, multipart=True, presigned=True)

    assert server.asked == []


def test_a_photo_is_fetched_by_the_server(play: Play) -> None:
    darkroom, server = play(STORED)

    upload = darkroom.uploads.from_url("https://example.com/a.jpg", purpose="product")

    assert upload.id == "ast_1"
    assert json.loads(server.asked[0].body) == {"url": "https://example.com/a.jpg", "purpose": "product"}


def test_an_address_that_is_refused_says_so(play: Play) -> None:
    darkroom, _ = play(a_problem(422, "url_refused"))

    with pytest.raises(InvalidRequest, match="url_refused"):
        darkroom.uploads.from_url("http://127.0.0.1/a.jpg")
