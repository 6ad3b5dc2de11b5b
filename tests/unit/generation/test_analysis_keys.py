"""By what an analysis is known: what may differ without being another question, and what may not."""

from typing import Any

import pytest

from services.generation.analyses import RESULT_SCHEMAS, fits
from services.generation.analysis_keys import analysis_key

ABOUT: dict[str, Any] = {
    "prompt": "What is to be seen?",
    "prompt_version": "look-1",
    "provider": "openai",
    "model": "seeing-1",
    "digests": ["a" * 64, "b" * 64],
    "parameters": {"name": "a chair", "count": 6, "about": {"rooms": ["kitchen"]}},
}


def key(name: str = "vision.analyze", **changes: Any) -> str:
    return analysis_key(name, **{**ABOUT, **changes})


def test_the_same_question_has_the_same_key_however_it_is_written_down() -> None:
    parameters = {"about": {"rooms": ["kitchen"]}, "count": 6.0, "name": "a chair"}

    assert key() == key(parameters=parameters, digests=tuple(ABOUT["digests"]))
    assert len(key()) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"name": "vision.category"},
        {"prompt": "What is it?"},
        {"prompt_version": "look-2"},
        {"provider": "gemini"},
        {"model": "seeing-2"},
        {"digests": ["b" * 64, "a" * 64]},
        {"digests": ["a" * 64]},
        {"parameters": {}},
        {"parameters": {**ABOUT["parameters"], "count": 7}},
        {"parameters": {**ABOUT["parameters"], "count": "6"}},
        {"parameters": {**ABOUT["parameters"], "about": {"rooms": ["kitchen", "hall"]}}},
        {"parameters": {**ABOUT["parameters"], "schema": {"type": "object"}}},
    ],
)
def test_another_question_has_another_key(change: dict[str, Any]) -> None:
    assert key(**change) != key()


def test_a_changed_shape_of_the_answer_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()

    monkeypatch.setitem(RESULT_SCHEMAS, "vision.analyze", {"type": "object"})  # type: ignore[arg-type]  # it is a dict

    assert key() != before


def test_an_answer_fits_its_schema_or_not() -> None:
    schema = RESULT_SCHEMAS["vision.category"]

    assert fits({"category": "chair", "subcategory": "stool", "confidence": 0.5}, schema)
    assert not fits({"category": "chair", "subcategory": "stool", "confidence": 5}, schema)
