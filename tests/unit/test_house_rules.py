import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CODE = Path(__file__).resolve().parents[2]
HOST_LIBRARIES = {"nameko", "kombu", "eventlet", "greenlet"}


def product_files() -> list[Path]:
    return sorted(file for folder in ("services", "shared") for file in (CODE / folder).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def may_know_the_host(file: Path) -> bool:
    parts = file.relative_to(CODE).parts
    return parts[0] == "shared" or "routes" in parts or file.name == "service.py"


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(CODE)))
def test_the_host_is_known_only_to_the_wiring(file: Path) -> None:
    assert may_know_the_host(file) or not HOST_LIBRARIES & set(imported(file))


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(CODE)))
def test_every_module_says_in_its_first_lines_what_it_is_for(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))


def test_no_file_is_called_by_a_word_that_means_nothing() -> None:
    empty_words = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}

    assert not [file for file in product_files() if file.stem in empty_words]


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(CODE)))
def test_no_statement_is_built_from_outside_text(file: Path) -> None:
    """A statement may name our own constants, in f-strings; values are always bound, never formatted in."""
    formatted = re.findall(r"(?:SELECT|INSERT|UPDATE|DELETE)[^\"']*['\"]\s*(?:%|\.format\()", file.read_text())

    assert formatted == []
