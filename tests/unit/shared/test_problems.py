"""Problems: one class per stable code, the same on both sides of a service border."""

import json

import pytest

from shared import problems
from shared.problems import InsufficientCredits, NotFound, Problem, Unavailable


def test_a_problem_survives_the_way_to_another_process() -> None:
    sent = InsufficientCredits("Buy more.", required=20, available=3, unit="credits")

    received = problems.from_dict(json.loads(json.dumps(sent.as_dict())))

    assert type(received) is InsufficientCredits
    assert received.as_dict() == sent.as_dict()
    assert str(received) == "Buy more."


def test_every_problem_of_shared_survives_the_way_to_another_process() -> None:
    for kind in _below(Problem):
        if kind.__module__ == "shared.problems":
            assert type(problems.from_dict(kind("what was wrong").as_dict())) is kind


def test_a_problem_of_a_class_this_process_has_not_loaded_keeps_status_code_and_title() -> None:
    received = problems.from_dict(
        {"status": 418, "code": "teapot", "title": "Short and stout", "detail": "d", "retryable": True, "spout": 1}
    )

    assert (received.status, received.code, received.title, received.retryable) == (
        418,
        "teapot",
        "Short and stout",
        True,
    )
    assert received.extra == {"spout": 1}
    assert Problem.status == 500


def test_extra_members_never_replace_those_of_the_standard() -> None:
    assert NotFound("gone", status=200, code="fine").as_dict()["status"] == 404
    assert NotFound("gone", status=200, code="fine").as_dict()["code"] == "not_found"


def test_without_a_detail_the_title_is_told() -> None:
    assert Unavailable().as_dict()["detail"] == Unavailable.title


def test_codes_are_unique_and_written_in_snake_case() -> None:
    codes = [kind.code for kind in (Problem, *_below(Problem))]

    assert len(codes) == len(set(codes))
    assert all(code == code.lower() and code.replace("_", "").isalnum() for code in codes)


def _below(kind: type[Problem]) -> list[type[Problem]]:
    return [found for child in kind.__subclasses__() for found in (child, *_below(child))]


@pytest.mark.parametrize("kind", [Problem, *_below(Problem)])
def test_a_status_is_that_of_an_error(kind: type[Problem]) -> None:
    assert 400 <= kind.status <= 599
