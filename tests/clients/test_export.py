"""The history as a table on disk: whole, or not there."""

from pathlib import Path

import pytest

from darkroom_client import ServerFailed
from tests.clients.conftest import Play
from tests.fakes import Scripted

TABLE = b"id,kind,amount\r\n" + b"ent_1,grant,10\r\n" * 20_000
CSV = {"Content-Type": "text/csv; charset=utf-8; header=present"}


def test_the_table_is_written_with_what_was_chosen(play: Play, tmp_path: Path) -> None:
    darkroom, server = play(Scripted(body=TABLE, headers=CSV))

    path = darkroom.credits.export(tmp_path / "entries.csv", since="2026-01-01", kind="grant")

    assert path.read_bytes() == TABLE
    assert [each.name for each in tmp_path.iterdir()] == ["entries.csv"]
    assert server.asked[0].query == {"since": "2026-01-01", "kind": "grant"}
    assert server.asked[0].headers["Authorization"] == "Bearer sk_live_secret"


def test_a_table_that_breaks_off_is_fetched_anew(play: Play, tmp_path: Path) -> None:
    darkroom, _ = play(Scripted(body=TABLE, headers=CSV, cut_after=100_000), Scripted(body=TABLE, headers=CSV))

    path = darkroom.credits.export(tmp_path / "entries.csv")

    assert path.read_bytes() == TABLE


def test_no_part_of_a_table_is_left_where_it_cannot_be_had(play: Play, tmp_path: Path) -> None:
    darkroom, _ = play(Scripted(body=TABLE, headers=CSV, cut_after=100_000))
    (tmp_path / "entries.csv").write_text("of yesterday")

    with pytest.raises(ServerFailed):
        darkroom.credits.export(tmp_path / "entries.csv")

    assert [each.name for each in tmp_path.iterdir()] == ["entries.csv"]
    assert (tmp_path / "entries.csv").read_text() == "of yesterday"
