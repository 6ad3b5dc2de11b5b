"""A provider in the worker's own process that takes its time for each picture and notes when it was at which.

It makes no request over a wire: what an adapter's HTTP client costs is its own, and alike for every contender.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.generation.operations import AfterLostAnswer, Answered, MadeImage, Submission
from services.generation.providers import Request

MODEL = "slow-1"


class SlowProvider:
    """Answers after so many seconds, with a picture that is the same for all; ``spans`` are its operations so far."""

    name = "slow"
    operations: frozenset[str] = frozenset({"image.stage", "image.product_scene"})
    after_lost_answer: AfterLostAnswer = "give_up"
    time_limit_seconds = 60.0
    requests_per_minute: int | None = None
    calls_back = False

    def __init__(self, *, seconds: float, concurrency: int, picture: bytes) -> None:
        self.concurrency = concurrency
        self.spans: list[tuple[str, float, float]] = []
        self._seconds = seconds
        self._answer = Answered(images=(MadeImage(data=picture, content_type="image/jpeg"),), model=MODEL)

    def model_for(self, _operation: str) -> str:
        """Return the one it has."""
        return MODEL

    def expected_cost_microusd(self, _operation: str, _parameters: Mapping[str, Any]) -> int:
        """Return 0: nobody is billed."""
        return 0

    def submit(self, request: Request) -> Submission:
        """Answer at once; one that takes it for later overrides this."""
        return self.answer(request)

    def answer(self, request: Request) -> Answered:
        """Take the time, and answer."""
        began = time.monotonic()
        time.sleep(self._seconds)
        self.spans.append((request.operation_id, began, time.monotonic()))
        return self._answer

    def write_spans(self, path: Path) -> None:
        """Write, of each operation, its id and when it began and ended, by the clock all processes share."""
        path.write_text(json.dumps(self.spans))
