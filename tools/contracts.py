"""The written contracts of the system: made from the code, kept in the repository, compared with it in CI."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.gateway.service import Gateway
from services.generation import contract
from shared import events
from shared.openapi import openapi_document
from tools import asyncapi, event_documents, failure_page, problems, roles_table, topology

CHECKOUT = Path(__file__).resolve().parent.parent
_EVENTS = "docs/events"
WORKFLOWS = "shared/contracts"
_IDENTITY = "docs/identity.md"


def documents(root: Path = CHECKOUT) -> dict[str, str]:
    """Return every contract as the code has it now: text by path below the checkout.

    Args:
        root: where the stored ones lie; an event's document keeps the samples of before.
    """
    content: dict[str, Any] = {
        "shared/problems.json": problems.entries(),
        "docs/asyncapi.json": asyncapi.document(topology.subscriptions(), version=_version()),
        "docs/openapi.json": openapi_document(Gateway),
    }
    for name, document in contract.documents().items():
        content[f"{WORKFLOWS}/{name}.json"] = document
    for name, cls in events.types.items():
        path = f"{_EVENTS}/{name}.json"
        content[path] = event_documents.document_of(cls, stored=_stored(root / path))
    texts = {path: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for path, each in content.items()}
    return {
        **texts,
        "docs/errors.md": problems.page(problems.entries()),
        "docs/failures.md": failure_page.page(),
        _IDENTITY: roles_table.page((CHECKOUT / _IDENTITY).read_text()),
    }


def breaches(wanted: Mapping[str, str], root: Path = CHECKOUT) -> list[str]:
    """Return what would break the readers of events that are out there, in words."""
    found = []
    for path in sorted((root / _EVENTS).glob("*.json")):
        stored = _stored(path)
        now = wanted.get(path.relative_to(root).as_posix())
        if now is None:
            found.append(f"{path.stem}: the type was removed")
        elif stored is not None:
            found += event_documents.breaches(stored, json.loads(now))
    return found


def drift(wanted: Mapping[str, str], root: Path = CHECKOUT) -> list[str]:
    """Return a diff for every stored contract that is not as the code has it: missing, different, left over."""
    stored = {path.relative_to(root).as_posix(): path.read_text() for path in _files(root)}
    return [
        "".join(_diff(path, stored.get(path, ""), wanted.get(path, "")))
        for path in sorted(stored.keys() | wanted.keys())
        if stored.get(path) != wanted.get(path)
    ]


def write(wanted: Mapping[str, str], root: Path = CHECKOUT) -> list[str]:
    """Bring the stored contracts to what the code has; return the paths that changed."""
    changed = []
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        if name not in wanted:
            path.unlink()
            changed.append(name)
    for name, text in wanted.items():
        path = root / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(name)
    return sorted(changed)


def _files(root: Path) -> list[Path]:
    names = (
        "docs/openapi.json",
        "docs/asyncapi.json",
        "docs/errors.md",
        "docs/failures.md",
        _IDENTITY,
        "shared/problems.json",
    )
    single = [root / name for name in names]
    several = [*(root / _EVENTS).glob("*.json"), *(root / WORKFLOWS).glob("*.json")]
    return [path for path in single if path.exists()] + sorted(several)


def _version() -> str:
    return str(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"])


def _stored(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _diff(path: str, stored: str, wanted: str) -> list[str]:
    return list(
        difflib.unified_diff(
            stored.splitlines(keepends=True), wanted.splitlines(keepends=True), f"stored/{path}", f"code/{path}"
        )
    )
