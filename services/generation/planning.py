"""What a request comes to before anything is written: checked inputs, generations, SKUs, time. Knows no database.

The same for a quote, for a dry run and for a job.
"""

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from marshmallow import ValidationError

from services.generation.analysis_keys import analysis_key
from services.generation.engine import Engine
from services.generation.jobs import estimate
from services.generation.providers import Provider, route
from services.generation.workflows import (
    Assets,
    Cached,
    PlannedGeneration,
    PlannedOperation,
    Workflow,
    nothing_cached,
    workflow,
)
from shared.problems import BadRequest, Unavailable

log = structlog.get_logger(__name__)

_SEED_LIMIT = 2**31


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a workflow makes of its inputs, as its schema reads them; ``fingerprint`` is the hash of both."""

    workflow: str
    inputs: Mapping[str, Any]
    fingerprint: str
    generations: Sequence[PlannedGeneration]
    estimated_seconds: int

    @property
    def free(self) -> bool:
        """Whether nothing of it has a price."""
        return all(item.sku is None for item in self.generations)

    @property
    def skus(self) -> dict[str, int]:
        """How many generations there are of each SKU."""
        return dict(Counter(item.sku for item in self.generations if item.sku))

    @property
    def images(self) -> int:
        """How many images it makes."""
        return sum(operation.makes_image for item in self.generations for operation in item.operations)


def plan(
    engine: Engine,
    *,
    workflow_name: str,
    inputs: Mapping[str, Any],
    assets: Assets,
    cached: Cached = nothing_cached,
) -> Plan:
    """Plan a job; another time its seeds are others. What is ``cached`` decides what it costs, not what it makes.

    Raises:
        NotFound: there is no such workflow.
        BadRequest: the inputs do not fit it.
        LimitExceeded: it is more than one job may be.
    """
    line = workflow(workflow_name)
    checked = checked_inputs(line, inputs)
    generations = list(line.plan(checked, assets, secrets.randbelow(_SEED_LIMIT), cached))
    return Plan(
        workflow=line.name,
        inputs=checked,
        fingerprint=fingerprint(line.name, checked),
        generations=generations,
        estimated_seconds=estimate(
            line.estimated_seconds, generations=len(generations), at_once=engine.operations_per_organization
        ),
    )


def part(engine: Engine, whole: Plan, *, only: Sequence[int] | None, out_of: int | None) -> Plan:
    """Return ``whole`` with those generations ``only`` whose numbers (from 1) are named; all of it where None.

    Raises:
        BadRequest: it is not ``out_of`` generations: what the numbers were given for was another plan.
    """
    if only is None:
        return whole
    if len(whole.generations) != out_of:
        raise BadRequest(
            f"With these settings there would be {len(whole.generations)} generations instead of {out_of}:"
            " change none that decides how many there are, or submit a new job."
        )
    generations = [whole.generations[number - 1] for number in only]
    each = workflow(whole.workflow).estimated_seconds
    seconds = estimate(each, generations=len(generations), at_once=engine.operations_per_organization)
    return replace(whole, generations=generations, estimated_seconds=seconds)


def for_nothing(whole: Plan) -> Plan:
    """Return ``whole`` without a price: nothing is held for it, and nothing charged."""
    return replace(whole, generations=[replace(item, sku=None) for item in whole.generations])


def quote(engine: Engine, *, workflow_name: str, inputs: Mapping[str, Any], assets: Assets) -> dict[str, Any]:
    """Return what a job would need, without prices: ``{workflow, fingerprint, skus, images, estimated_seconds}``.

    Raises:
        Unavailable: no provider that is set up does this.
        NotFound, BadRequest, LimitExceeded: as `plan`.
    """
    planned = plan(engine, workflow_name=workflow_name, inputs=inputs, assets=assets)
    for item in planned.generations:
        expected_cost_microusd(engine, item)
    return {
        "workflow": planned.workflow,
        "fingerprint": planned.fingerprint,
        "skus": planned.skus,
        "images": planned.images,
        "estimated_seconds": planned.estimated_seconds,
    }


def checked_inputs(line: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs as the workflow's schema reads them.

    Raises:
        BadRequest: with a JSON pointer per mistake.
    """
    try:
        loaded: dict[str, Any] = line.inputs().load(inputs)
    except ValidationError as error:
        raise BadRequest(
            f"The inputs do not fit the workflow {line.name}.",
            errors=[
                {"pointer": f"/inputs/{pointer}", "code": "invalid", "detail": text}
                for pointer, text in _pointers(error.messages)
            ],
        ) from error
    return loaded


def fingerprint(workflow_name: str, inputs: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a workflow and its checked inputs as canonical JSON."""
    canonical = json.dumps({"workflow": workflow_name, "inputs": dict(inputs)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def digests_of(assets: Assets) -> dict[str, str]:
    """Return the SHA-256, in hex, of uploads' normalised bytes, by their keys in the store, where it is known."""
    return {asset["key"]: asset["sha256"] for asset in assets.values() if asset.get("sha256")}


def looked_up(engine: Engine, operation: PlannedOperation, digests: Mapping[str, str]) -> str | None:
    """Return by what key the answer of an operation is known; None where it makes an image, or it is not known of what.

    Raises:
        Unavailable: no provider that is set up does this operation.
    """
    if operation.makes_image or not all(source in digests for source in operation.sources):
        return None
    provider = provider_of(engine, operation.name)
    return analysis_key(
        operation.name,
        prompt=operation.prompt,
        prompt_version=operation.prompt_version,
        provider=provider.name,
        model=provider.model_for(operation.name),
        digests=[digests[source] for source in operation.sources],
        parameters=operation.parameters,
    )


def provider_of(engine: Engine, operation: str) -> Provider:
    """Return the provider that the operation's route leads to.

    Raises:
        Unavailable: no provider that is set up does this operation.
    """
    try:
        return route(operation, routes=engine.routes, providers=engine.providers)
    except LookupError as error:
        log.exception("operation_without_provider", operation=operation)
        raise Unavailable("No AI provider for this operation is set up. Tell the operator.") from error


def expected_cost_microusd(engine: Engine, planned: PlannedGeneration) -> int:
    """Return what a generation's first operations are expected to cost us.

    Raises:
        Unavailable: no provider that is set up does one of them, or nobody knows what it would cost.
    """
    try:
        return sum(
            provider_of(engine, operation.name).expected_cost_microusd(operation.name, operation.parameters)
            for operation in planned.operations
        )
    except LookupError as error:
        log.exception("operation_without_price", operations=[operation.name for operation in planned.operations])
        raise Unavailable("What this would cost us is not known, so it is not begun. Tell the operator.") from error


def _pointers(messages: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Turn marshmallow's nested messages into ``(pointer, text)`` pairs."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _pointers(inner, f"{prefix}/{name}" if prefix else str(name))
    else:
        for text in messages:
            yield prefix, str(text)
