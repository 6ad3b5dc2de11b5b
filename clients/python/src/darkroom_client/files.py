"""Answers that are files: written piece by piece, and there only when they are whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom_client.transport import Answer, Transport

_PIECE_BYTES = 1 << 16


def save(
    transport: Transport, address: str, to: str | os.PathLike[str], *, accept: str, query: Mapping[str, Any]
) -> Path:
    """Write what is at ``address`` to a file, which appears when it is whole, and return its path.

    Raises:
        NoAnswer: it broke off again and again.
    """
    path = Path(to)
    part = path.with_name(f"{path.name}.part")
    given = {name: value for name, value in query.items() if value is not None}

    def fetch() -> Answer:
        url = f"{transport.base_url}{address}"
        with (
            part.open("wb") as file,
            transport.opened("GET", url, params=given, headers={"Accept": accept}) as answer,
        ):
            for piece in answer.iter_content(_PIECE_BYTES):
                file.write(piece)
            return Answer(answer.status_code, answer.headers, None)

    try:
        transport.again_and_again(fetch, what=f"GET {address}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
