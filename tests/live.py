"""`make live`: calls every AI vendor whose key is set in the environment, once for an image and once for an analysis.

For real, and for real money: some cents in all. No test of the suite does that. Exit status 1 if one of them failed.
"""

import os
import sys
import time

from services.generation.operations import Answered, Outcome
from services.generation.providers import Provider, Request, available
from services.generation.substitutes import as_asked
from shared.ids import new_id
from shared.images import inspect
from tests.waiting import carry_out
from tools.demo_room import demo_room

PROMPTS = {
    "image.edit": "The same room, with a small round rug on the floor. Change nothing else.",
    "vision.category": "What is on this picture? Name its category and subcategory, and how sure you are, from 0 to 1.",
}


def main(names: list[str]) -> int:
    """Call the named providers, or all that have a key."""
    providers = {name: provider for name, provider in available(os.environ).items() if name != "local"}
    chosen = names or sorted(providers)
    missing = [name for name in chosen if name not in providers]
    if missing or not chosen:
        print(f"No key for {', '.join(missing) or 'any vendor'}: set PROVIDER_<NAME>_API_KEY")  # noqa: T201  a command
        return 1
    photo = demo_room()
    outcomes = [
        _tried(providers[name], operation, photo)
        for name in chosen
        for operation in PROMPTS
        if operation in providers[name].operations
    ]
    return 0 if all(isinstance(outcome, Answered) for outcome in outcomes) else 1


def _tried(provider: Provider, operation: str, photo: bytes) -> Outcome:
    began = time.monotonic()
    request = Request(
        operation_id=new_id("op"),
        name=operation,
        prompt=PROMPTS[operation],
        model=provider.model_for(operation),
        seed=7,
        sources=(photo,),
    )
    outcome = as_asked(carry_out(provider, request), provider=provider.name, asked=request.model)
    took = time.monotonic() - began
    print(f"{provider.name} {operation} {request.model}: {_told(outcome)} ({took:.1f} s)")  # noqa: T201  a command
    return outcome


def _told(outcome: Outcome) -> str:
    if not isinstance(outcome, Answered):
        return repr(outcome)
    made = [f"{info.width} x {info.height} {info.format}" for info in (inspect(image.data) for image in outcome.images)]
    return f"{', '.join(made) or outcome.result} for ${outcome.cost_microusd / 1_000_000:.4f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
