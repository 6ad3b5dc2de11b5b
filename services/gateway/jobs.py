"""Asking for a job, once however often the request comes; and waiting for one, where a client wants to."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from services.gateway import idempotency, orders, permissions
from services.gateway.idempotency import Claim, Scope, idempotent
from services.gateway.links import Links
from services.gateway.schemas.jobs import JOB_ENDS
from shared.crash import crash_point
from shared.http import Answer, Guard, Outcome, Request, Waiting
from shared.ids import new_id
from shared.problems import NotFound, Unavailable

POLL_SECONDS = 5
LONGEST_WAIT_SECONDS = 60
CACHE_STATUS = "Cache-Status"
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
_NOT_TAKEN_IN = {"rejected", "awaiting_credit"}


def accept(service: Any, request: Request, links: Links, *, workflow: str, inputs: Mapping[str, Any]) -> Answer:
    """Hand a job over and return its 202; one that an earlier try handed over is only looked up.

    One of which everything was known is a 200. ``inputs`` have been checked. A dry run is a 200 that nothing was held
    for. What generation or the catalog refuse passes through.
    """
    return _accept(
        service, request, links, order=lambda: orders.submit(service, request, workflow=workflow, inputs=inputs)
    )


def accept_retry(service: Any, request: Request, links: Links, *, job_id: str) -> Answer:
    """Have failures of an ended job made again by a new one, and return that as `accept` does.

    Raises:
        NotFound: there is no such job.
        Forbidden: the key may not ask for its workflow.
    """
    ended = service.generation.job(**request.owner, job_id=job_id)
    permissions.permit_workflow(request.asker, ended["workflow"])
    return _accept(service, request, links, order=lambda: orders.retry(service, request, job_id=job_id))


def accept_step(
    service: Any, request: Request, links: Links, *, workflow: str, order: Callable[[], Mapping[str, Any]]
) -> Answer:
    """Take the step of a session that ``order`` asks generation for, a job of ``workflow``; return it as `accept` does.

    Raises:
        Forbidden: the key may not ask for this workflow.
    """
    permissions.permit_workflow(request.asker, workflow)
    return _accept(service, request, links, order=order)


def _accept(service: Any, request: Request, links: Links, *, order: Callable[[], Mapping[str, Any]]) -> Answer:
    if request.body["dry_run"]:
        return Answer(200, order(), {"Cache-Control": "no-store"})
    found = _job_of_an_earlier_try(service, request)
    if found and found["status"] not in _NOT_TAKEN_IN:
        wallet = service.credits.balance(org_id=request.org_id)
        return _accepted(links, found, wallet)
    if found and found["status"] == "rejected":
        _start_over(service, request)
    answer = order()
    crash_point("gateway.job_submitted")
    if answer["job"]["status"] == "rejected":
        # An earlier try's job, given up in this very moment: kept as the answer it would be replayed for 7 days.
        raise Unavailable("The credits were not held in time, and nothing was charged: try again.", retry_after=1)
    # Where nothing had to be held, or could be, nobody has looked at the wallet yet.
    wallet = answer["balance"] or service.credits.balance(org_id=request.org_id)
    return _accepted(links, answer["job"], wallet)


def shown(links: Links, job: Mapping[str, Any]) -> Answer:
    """Return a job as it is now; until its end the client is told when to ask again."""
    headers = {} if job["status"] in JOB_ENDS else {"Retry-After": str(POLL_SECONDS)}
    return Answer(200, links.job(job), headers)


def patient(links_now: Callable[[Any], Links]) -> Guard:
    """Return the guard of a route that makes a job: idempotent, and waiting for its end where the client prefers it.

    A dry run passes it by: it needs no key, and leaves none.
    """
    once = idempotent(prefix="job", required=True)

    def guard(service: Any, request: Request, proceed: Callable[[], Outcome]) -> Outcome:
        if orders.is_dry_run(request):
            request.claim = Claim(resource_id=new_id("job"))
            return proceed()
        outcome = once(service, request, proceed)
        seconds = wait_seconds(request.headers.get("Prefer"))
        if not seconds or not isinstance(outcome, Answer) or outcome.status != 202:  # noqa: PLR2004  accepted
            return outcome
        return Waiting(
            first=outcome,
            poll=lambda: _end_of(service, request, outcome, links_now, seconds=seconds),
            seconds=seconds,
            waiter=request.asker.id,
        )

    return guard


def wait_seconds(prefer: str | None) -> int:
    """Return N of ``Prefer: wait=N`` (RFC 7240), at most 60; 0 where it is not asked for."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_SECONDS) if found else 0


def cache_status(job: Mapping[str, Any]) -> str | None:
    """Return how the cache took part in a job (RFC 9211); None where nothing of it can be known before."""
    told = job.get("cache")
    if not told:
        return None
    if told["fresh"]:
        return "darkroom; fwd=request"
    if _is_known(job):
        return "darkroom; hit"
    if not told["hits"]:
        return "darkroom; fwd=miss"
    return f'darkroom; fwd=partial; detail="{told["hits"]} of {told["operations"]}"'


def _is_known(job: Mapping[str, Any]) -> bool:
    """Tell whether all of a job was known, so that it has ended as soon as it was asked for."""
    told = job.get("cache")
    if not told or told["hits"] < told["operations"] or job["status"] != "succeeded":
        return False
    return not any(generation["images"] for generation in job["generations"])


def _accepted(links: Links, job: Mapping[str, Any], wallet: Mapping[str, Any]) -> Answer:
    body = {**links.job(job), "balance": orders.balance_of(wallet)}
    told = cache_status(job)
    headers = {CACHE_STATUS: told} if told else {}
    where = f"/v1/jobs/{job['id']}"
    if _is_known(job):
        return Answer(200, body, {**headers, "Content-Location": where})
    return Answer(202, body, {**headers, "Location": where, "Retry-After": str(POLL_SECONDS)})


def _job_of_an_earlier_try(service: Any, request: Request) -> Mapping[str, Any] | None:
    if not request.claim.again:
        return None
    try:
        found: Mapping[str, Any] = service.generation.job(**request.owner, job_id=request.claim.resource_id)
    except NotFound:
        return None
    return found


def _start_over(service: Any, request: Request) -> None:
    """Take a new id: the job under the old one was refused its credits, and a job that has ended stays ended."""
    job_id = new_id("job")
    scope = Scope(org_id=request.org_id, principal_id=request.asker.id, key=request.claim.key)
    idempotency.renew(service.db, scope, request.claim, resource_id=job_id)
    request.claim = dataclasses.replace(request.claim, resource_id=job_id)


def _end_of(
    service: Any, request: Request, first: Answer, links_now: Callable[[Any], Links], *, seconds: int
) -> Answer | None:
    """Return the finished job as the answer, or None while it is not finished, or nobody can say."""
    try:
        job = service.generation.job(**request.owner, job_id=first.body["id"])
    except Unavailable:
        return None
    if job["status"] not in JOB_ENDS:
        return None
    kept = {name: first.headers[name] for name in (idempotency.REPLAYED, CACHE_STATUS) if name in first.headers}
    headers = {**kept, "Content-Location": first.headers["Location"], "Preference-Applied": f"wait={seconds}"}
    return Answer(200, links_now(service).job(job), headers)
