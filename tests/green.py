"""pytest plugin: patches the process for eventlet before any test file is imported, as every process of ours is.

What was imported stays for good: the garbage collector need not look through it, again and again, for half a second;
and it comes less often, since tests make much and keep little.
"""

import gc
import warnings
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: Any, parser: Any, args: Any) -> None:  # noqa: ARG001  pytest's signature
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eventlet says at import that it is deprecated; docs/adr/0001 answers that
        import eventlet  # noqa: PLC0415  the patch must be made here, not when pytest imports its plugins

        eventlet.monkey_patch()
        import nameko.standalone.events  # noqa: F401, PLC0415  nameko and kombu warn at import, once


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
