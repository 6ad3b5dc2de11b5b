"""An engine on a real database: a provider that answers as told, a folder as store, credits that hold what is asked."""

from pathlib import Path
from typing import Any

import pytest

from services.generation.engine import Engine
from services.generation.submissions import Submission
from shared.ids import new_id
from shared.storage import ObjectStore, open_store
from tests.fakes import HoldingCredits, ScriptedProvider


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}/objects")


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def engine(provider: ScriptedProvider) -> Engine:
    return Engine(providers={"local": provider}, routes={})


@pytest.fixture
def credits_service() -> HoldingCredits:
    return HoldingCredits()


def a_submission(**changes: Any) -> Submission:
    upload = new_id("ast")
    asked: dict[str, Any] = {
        "job_id": new_id("job"),
        "org_id": new_id("org"),
        "user_id": None,
        "workflow": "staging",
        "inputs": {"upload_id": upload, "style": "modern", "room_type": "bedroom", "variants": 2},
        "assets": {upload: {"key": "assets/org/a.jpg", "sha256": "0" * 64}},
    }
    return Submission(**{**asked, **changes})
