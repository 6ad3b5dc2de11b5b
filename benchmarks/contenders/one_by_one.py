"""Ours with nothing gathered: a process of the product in which every call goes alone, at once."""

from shared import runner  # isort: skip

import os
import sys
from collections.abc import Hashable
from typing import Any

from shared.gathering import Gathering


def alone(gathering: Gathering[Any, Any, Any], key: Hashable, item: Any) -> Any:
    """Run an item by itself, as if there were no gathering."""
    (outcome,) = gathering._run(key, [item])  # noqa: SLF001  the only place that does without
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


if __name__ == "__main__":
    Gathering.__call__ = alone  # type: ignore[method-assign, assignment]  # as the module says
    os._exit(runner.main(sys.argv[1]))
