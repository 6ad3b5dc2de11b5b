"""docs/adding-a-provider.md is followed word for word: its example is put together and asked for a picture."""

import base64
import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from services.generation import model_registry
from services.generation.model_registry import Model
from services.generation.operations import Answered, Lost, Outcome, Refused
from services.generation.pricing import PerImage
from services.generation.providers import Provider
from tests.contracts.providers import a_photo, a_request
from tests.fakes import FakeSite, an_answer

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "adding-a-provider.md"


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Outcome]:
    """Give a function that lets the example stage a photo, with what the vendor answers."""
    module_text, row_text = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("acme")
    exec(compile(module_text, str(PAGE), "exec"), vars(module))  # noqa: S102  our own page
    row = eval(row_text, {"Model": Model, "PerImage": PerImage, "date": date})  # noqa: S307  as above
    monkeypatch.setattr(model_registry, "MODELS", (*model_registry.MODELS, row))

    def stage(answer: bytes) -> Outcome:
        with FakeSite().running() as vendor:
            vendor.answers["/v1/pictures"] = answer
            provider: Provider = module.create(
                {"PROVIDER_ACME_API_KEY": "k", "PROVIDER_ACME_BASE_URL": f"http://{vendor.place}/v1"}
            )
            outcome: Any = provider.submit(a_request(provider, "image.stage"))
            return outcome

    return stage


def test_the_example_makes_a_picture_and_knows_what_it_cost(stage: Callable[[bytes], Outcome]) -> None:
    outcome = stage(an_answer(json.dumps({"picture": base64.b64encode(a_photo()).decode()}).encode()))

    assert isinstance(outcome, Answered)
    assert outcome.images[0].data == a_photo()
    assert (outcome.model, outcome.cost_microusd) == ("acme-room-2", 30_000)


def test_the_example_tells_a_refusal_from_a_lost_answer(stage: Callable[[bytes], Outcome]) -> None:
    assert isinstance(stage(an_answer(b"{}", status="503 Full")), Refused)
    assert isinstance(stage(b""), Lost)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:services|tools|tests|deploy)/[\w/.]+\.py)`", PAGE.read_text())))
)
def test_every_file_the_page_names_is_there(path: str) -> None:
    assert (CHECKOUT / path).is_file()


def test_every_command_the_page_names_is_there() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()

    for target in re.findall(r"`make (\w+)", PAGE.read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
