"""What every request for paid work has in common: inputs checked, what they name resolved, its terms handed on."""

from collections.abc import Mapping
from typing import Any

from services.gateway import permissions, workflows
from shared.http import Request
from shared.http_body import json_of
from shared.problems import Problem

_PLAN = ("fingerprint", "skus", "images", "estimated_seconds")
_BALANCE = ("available", "held", "version")
_TERMS = ("deadline_seconds", "quote_id", "on_insufficient", "dry_run", "fresh")


def resolved(service: Any, request: Request, *, workflow: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{workflow, inputs, assets}`` as generation takes them; ``inputs`` have been checked.

    ``assets`` has a snapshot of each upload, product and revision that they name, by id.

    Raises:
        Forbidden: the key may not ask for this workflow.
        NotFound: one of them is not there.
    """
    permissions.permit_workflow(request.asker, workflow)
    line = workflows.contract(workflow)
    named = workflows.named(line, inputs)
    assets = service.catalog.resolve(**request.owner, **named) if any(named.values()) else {}
    return {"workflow": line.name, "inputs": dict(inputs), "assets": assets}


def submit(service: Any, request: Request, *, workflow: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hand the order over to generation, under the claim's id and on the terms in the body; return its answer."""
    answer: Mapping[str, Any] = service.generation.submit(
        **resolved(service, request, workflow=workflow, inputs=inputs),
        **{name: request.body[name] for name in _TERMS},
        **request.owner,
        job_id=request.claim.resource_id,
        user_id=request.asker.user_id,
        cap_id=request.asker.cap_id,
        daily_cap=request.asker.daily_cap,
    )
    return answer


def retry(service: Any, request: Request, *, job_id: str) -> Mapping[str, Any]:
    """Have failures of an ended job made again, under the claim's id and as the body says; return the answer."""
    answer: Mapping[str, Any] = service.generation.retry(
        **{name: request.body[name] for name in ("generation_ids", "settings", *_TERMS)},
        **request.owner,
        job_id=job_id,
        new_job_id=request.claim.resource_id,
        user_id=request.asker.user_id,
        cap_id=request.asker.cap_id,
        daily_cap=request.asker.daily_cap,
    )
    return answer


def step(service: Any, request: Request, method: str, **what: Any) -> Mapping[str, Any]:
    """Have generation take a paid step of a session by its ``method``, under the claim's id; return the answer."""
    answer: Mapping[str, Any] = getattr(service.generation, method)(
        **what,
        **{name: request.body[name] for name in _TERMS},
        **request.owner,
        job_id=request.claim.resource_id,
        user_id=request.asker.user_id,
        cap_id=request.asker.cap_id,
        daily_cap=request.asker.daily_cap,
    )
    return answer


def quoted(service: Any, request: Request, *, workflow: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have the order planned by generation and priced by credits; return the quote, under the claim's id."""
    plan = service.generation.quote(**request.owner, **resolved(service, request, workflow=workflow, inputs=inputs))
    quote: Mapping[str, Any] = service.credits.quote(
        **request.owner,
        quote_id=request.claim.resource_id,
        workflow=workflow,
        **{name: plan[name] for name in _PLAN},
    )
    return quote


def is_dry_run(request: Request) -> bool:
    """Tell whether the body asks for a dry run; one that cannot be read asks for nothing.

    It has to be known before the body is checked: a dry run makes nothing, so no key may remember it.
    """
    try:
        body = json_of(request.raw, content_type=request.headers.get("Content-Type", ""))
    except Problem:
        return False
    return isinstance(body, dict) and body.get("dry_run") is True


def balance_of(wallet: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a wallet that goes with an answer."""
    return {name: wallet[name] for name in _BALANCE}
