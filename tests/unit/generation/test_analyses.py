"""What an analysis may answer, whoever wrote it."""

import pytest

from services.generation.analyses import read

OPEN = {"type": "object"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "7",
        '{"a": ',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": 1e20}',
        '{"a": 99999999999999999999}',
        '{"a": -9007199254740993}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 100_000,
    ],
)
def test_what_is_no_json_object_is_no_analysis(text: str) -> None:
    with pytest.raises(ValueError, match="the analysis"):
        read(text, OPEN)


def test_characters_that_cannot_be_stored_are_replaced_and_the_rest_is_kept() -> None:
    found = read(r'{"na\u0000me": ["a\u0000b", "half \ud83d", "whole \ud83d\ude00"]}', OPEN)

    assert found == {"na\ufffdme": ["a\ufffdb", "half ?", "whole \U0001f600"]}


def test_numbers_that_every_reader_takes_for_the_same_are_kept() -> None:
    assert read('{"a": 9007199254740991, "b": -0.5, "c": 1e3}', OPEN) == {"a": 9007199254740991, "b": -0.5, "c": 1000.0}
