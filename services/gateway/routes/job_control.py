"""Routes of jobs that are there already: what happened to one, and cancelling, hurrying and repeating it."""

from services.gateway import jobs
from services.gateway.authentication import api_key
from services.gateway.routes.jobs import PAID_ANSWERS, PAID_PROBLEMS, require_job_id
from services.gateway.routes.wiring import Wiring, links_now
from services.gateway.schemas.attempts import AttemptsQuery, AttemptsSchema, TimelineSchema
from services.gateway.schemas.jobs import JobSchema, RetryRequest
from shared.http import Alias, Answer, Request, route
from shared.problems import Forbidden, SourceGone, StepNotAllowed

_TAGS = ("jobs",)


class JobControlRoutes(Wiring):
    """One job, from its acceptance on."""

    @route(
        "GET",
        "/v1/jobs/<job_id>/attempts",
        aliases=(Alias("GET", "/api/replicate/status/<job_id>"),),
        auth=api_key,
        query=AttemptsQuery,
        answers={200: AttemptsSchema},
        problems=(Forbidden,),
        summary="What was sent to AI providers for a job, and what each came to",
        tags=_TAGS,
    )
    def job_attempts(self, request: Request, job_id: str) -> Answer:
        """Return a page of a job's attempts."""
        require_job_id(job_id)
        return Answer(200, self.generation.attempts(**request.owner, job_id=job_id, **request.query))

    @route(
        "GET",
        "/v1/jobs/<job_id>/timeline",
        auth=api_key,
        answers={200: TimelineSchema},
        problems=(Forbidden,),
        summary="What happened to a job, in its order",
        description="Of a job of more than 1000 generations the first 1000.",
        tags=_TAGS,
    )
    def job_timeline(self, request: Request, job_id: str) -> Answer:
        """Return what happened to a job."""
        require_job_id(job_id)
        return Answer(200, self.generation.timeline(**request.owner, job_id=job_id))

    @route(
        "POST",
        "/v1/jobs/<job_id>/cancel",
        auth=api_key,
        answers={200: JobSchema},
        problems=(Forbidden,),
        summary="Cancel a job: what is not finished ends, and its credits come back",
        description="What is finished is kept and charged; an image that is being stored just now counts as finished, "
        "and the job is `cancelling` until it is. A job that has ended stays as it ended.",
        tags=_TAGS,
    )
    def cancel_job(self, request: Request, job_id: str) -> Answer:
        """Cancel one job, and return it."""
        require_job_id(job_id)
        return jobs.shown(links_now(self), self.generation.cancel(**request.owner, job_id=job_id))

    @route(
        "POST",
        "/v1/jobs/<job_id>/sync",
        auth=api_key,
        answers={200: JobSchema},
        problems=(Forbidden,),
        summary="Have AI providers asked now for what they have of a job",
        description="The answer is the job as it is yet: look again in a moment. They are asked all the time anyway, "
        "only less and less often the longer they take.",
        tags=_TAGS,
    )
    def sync_job(self, request: Request, job_id: str) -> Answer:
        """Have one job's providers asked, and return it."""
        require_job_id(job_id)
        return jobs.shown(links_now(self), self.generation.sync(**request.owner, job_id=job_id))

    @route(
        "POST",
        "/v1/jobs/<job_id>/retry",
        aliases=(Alias("POST", "/api/headshots/<job_id>/retry"),),
        auth=api_key,
        guard=jobs.patient(links_now),
        money=True,
        holds=True,
        body=RetryRequest,
        answers=PAID_ANSWERS,
        problems=(*PAID_PROBLEMS, StepNotAllowed, SourceGone),
        summary="Have failed generations of an ended job made again, by a new job",
        description="The new job names the old one in `retry_of`, and pays its own way at today's prices; the old one "
        "stays as it ended. 409 where it has not ended, or nothing of it has failed; 410 where "
        "the photo it was made of is deleted.",
        tags=_TAGS,
    )
    def retry_job(self, request: Request, job_id: str) -> Answer:
        """Hand a job over that makes failures again."""
        require_job_id(job_id)
        return jobs.accept_retry(self, request, links_now(self), job_id=job_id)
