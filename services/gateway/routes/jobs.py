"""Routes of jobs: asking for one of any workflow, and following it."""

from services.gateway import jobs, receipts, workflows
from services.gateway.authentication import api_key
from services.gateway.idempotency import IdempotencyKeyRequired, IdempotencyKeyReused, RequestInProgress
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.jobs import (
    GenerationsQuery,
    GenerationsSchema,
    JobRequest,
    JobSchema,
    JobsQuery,
    JobsSchema,
)
from services.gateway.schemas.pages import PageQuery
from services.gateway.schemas.quotes import DryRunSchema
from services.gateway.schemas.receipts import ReceiptSchema
from shared.http import Alias, Answer, Request, route
from shared.ids import is_id
from shared.problems import Forbidden, LimitExceeded, NotFound, QuoteExpired, QuoteMismatch, QuoteUsed

_TAGS = ("jobs",)
PAID_ANSWERS = {202: JobSchema, 200: (JobSchema, DryRunSchema)}
PAID_PROBLEMS = (
    Forbidden,
    IdempotencyKeyRequired,
    IdempotencyKeyReused,
    RequestInProgress,
    QuoteExpired,
    QuoteUsed,
    QuoteMismatch,
    LimitExceeded,
)


class JobRoutes(Wiring):
    """Jobs of every product line."""

    @route(
        "POST",
        "/v1/jobs",
        auth=api_key,
        guard=jobs.patient(links_now),
        money=True,
        holds=True,
        body=JobRequest,
        answers=PAID_ANSWERS,
        problems=PAID_PROBLEMS,
        summary="Ask for a job of any workflow",
        description="An analysis that is known already is free. A job of which everything is known has ended with the "
        "answer, a 200; `Cache-Status` says how much of it was.",
        tags=_TAGS,
    )
    def create_job(self, request: Request) -> Answer:
        """Check the inputs by the workflow's contract and hand the job over."""
        name, inputs = request.body["workflow"], request.body["inputs"]
        workflows.check(workflows.contract(name), inputs, at="/inputs")
        return jobs.accept(self, request, links_now(self), workflow=name, inputs=inputs)

    @route(
        "GET",
        "/v1/jobs",
        auth=api_key,
        query=JobsQuery,
        answers={200: JobsSchema},
        problems=(Forbidden,),
        summary="List jobs, newest first",
        description="Each has its first 8 generations; `GET /v1/jobs/{id}` has 50, and its generations' own list all.",
        tags=_TAGS,
    )
    def jobs(self, request: Request) -> Answer:
        """Return a page of jobs."""
        page = self.generation.jobs(**request.owner, **request.query)
        return Answer(200, {**page, "data": [links_now(self).job(job) for job in page["data"]]})

    @route(
        "GET",
        "/v1/jobs/<job_id>",
        aliases=(Alias("GET", "/api/jobs/<job_id>"), Alias("GET", "/api/headshots/status/<job_id>")),
        auth=api_key,
        answers={200: JobSchema},
        problems=(Forbidden,),
        summary="Look a job up; ask again after Retry-After until it has ended",
        tags=_TAGS,
    )
    def job(self, request: Request, job_id: str) -> Answer:
        """Return one job."""
        require_job_id(job_id)
        return jobs.shown(links_now(self), self.generation.job(**request.owner, job_id=job_id))

    @route(
        "GET",
        "/v1/jobs/<job_id>/generations",
        auth=api_key,
        query=GenerationsQuery,
        answers={200: GenerationsSchema},
        problems=(Forbidden,),
        summary="List a job's generations by number",
        tags=_TAGS,
    )
    def job_generations(self, request: Request, job_id: str) -> Answer:
        """Return a page of a job's generations."""
        require_job_id(job_id)
        page = self.generation.job_generations(**request.owner, job_id=job_id, **request.query)
        return Answer(200, {**page, "data": [links_now(self).generation(one) for one in page["data"]]})

    @route(
        "GET",
        "/v1/jobs/<job_id>/receipt",
        auth=api_key,
        query=PageQuery,
        answers={200: ReceiptSchema},
        problems=(Forbidden,),
        summary="What a job held, was charged and got back, line by line",
        tags=_TAGS,
    )
    def job_receipt(self, request: Request, job_id: str) -> Answer:
        """Return a job's receipt."""
        require_job_id(job_id)
        return Answer(200, receipts.receipt(self, request.owner, job_id=job_id, **request.query))


def require_job_id(job_id: str) -> None:
    """Refuse what is no id of a job.

    Raises:
        NotFound: it is none.
    """
    if not is_id(job_id, prefix="job"):
        raise NotFound("There is no such job.")
