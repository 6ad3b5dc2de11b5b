"""Jobs and what comes before them: quotes, estimates, stagings, workflows, models."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from darkroom_client import pages
from darkroom_client.errors import DarkroomError
from darkroom_client.models import AiModel, Attempt, Estimate, Generation, Job, Quote, Receipt, TimelineStep, Workflow
from darkroom_client.transport import Answer, Transport, segment

LONGEST_PREFERRED_WAIT_SECONDS = 60
_POLL_SECONDS = 5.0
_LINES_PER_PAGE = 200


class JobNotFinished(DarkroomError, TimeoutError):
    """The job goes on, but the time to wait is over; ``job`` is as it was seen last."""

    def __init__(self, detail: str, *, job: Job | None = None, **more: Any) -> None:
        super().__init__(detail, **more)
        self.job = job


class Quotes:
    """``darkroom.quotes``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, workflow: str, inputs: Mapping[str, Any], *, idempotency_key: str | None = None) -> Quote:
        """Ask for a price that is kept for a while; a job made with ``quote_id=quote.id`` costs no more."""
        body = {"workflow": workflow, "inputs": inputs}
        return Quote.from_json(
            self._transport.send("POST", "/v1/quotes", body=body, idempotency_key=idempotency_key).body
        )


class Workflows:
    """``darkroom.workflows``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> "list[Workflow]":
        """Return every kind of job there is, with the JSON Schema of its inputs and their choices."""
        return pages.items(self._transport.send("GET", "/v1/workflows").body, model=Workflow)


class Models:
    """``darkroom.models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> "list[AiModel]":
        """Return every AI model in use, with how it does just now."""
        return pages.items(self._transport.send("GET", "/v1/models").body, model=AiModel)


class Stagings:
    """``darkroom.stagings``: the short form of a job of the workflow `staging`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(  # noqa: PLR0913  an argument for each field of the body
        self,
        upload_id: str,
        *,
        style: str,
        room_type: str,
        variants: int = 2,
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Stage a room in some variants; the further arguments are those of `Jobs.create`."""
        body = {"upload_id": upload_id, "style": style, "room_type": room_type, "variants": variants}
        terms = terms_of(quote_id=quote_id, on_insufficient=on_insufficient, deadline_seconds=deadline_seconds)
        return made(
            self._transport,
            "/v1/stagings",
            {**body, **terms},
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )


class Jobs:
    """``darkroom.jobs``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        workflow: str,
        inputs: Mapping[str, Any],
        *,
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        fresh: bool = False,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Ask for a job of any workflow; its credits are held from then on.

        Args:
            workflow: one of `workflows.list()`.
            inputs: as its schema says.
            quote_id: charge at most what this quote says.
            on_insufficient: `reject` (the default), `partial`: make what can be paid for, or `pause`: make that,
                and the rest once it can be paid for.
            deadline_seconds: give up, and give the credits back, when it has not ended by then.
            fresh: have analyses made anew that are known already; what is known is free, and there at once.
            wait_seconds: let the server wait for its end, at most 60; the job comes back unfinished if that is too
                short, or too many wait already.
            idempotency_key: one of your own makes one job, however often you call; one is made up otherwise.

        Raises:
            HoldRefused: it cannot be paid for (`InsufficientCredits`, `QuotaExceeded`, `DailyCapReached`).
            QuoteRefused: the quote is not good for it.
            InvalidRequest: the inputs do not fit the workflow.
        """
        terms = terms_of(
            quote_id=quote_id,
            on_insufficient=on_insufficient,
            deadline_seconds=deadline_seconds,
            fresh=fresh or None,
        )
        body = {"workflow": workflow, "inputs": inputs, **terms}
        return made(self._transport, "/v1/jobs", body, wait_seconds=wait_seconds, idempotency_key=idempotency_key)

    def estimate(self, workflow: str, inputs: Mapping[str, Any], *, on_insufficient: str | None = None) -> Estimate:
        """Return what a job would cost now, or raise what it would be refused with; nothing is held."""
        terms = terms_of(on_insufficient=on_insufficient)
        body = {"workflow": workflow, "inputs": inputs, "dry_run": True, **terms}
        return Estimate.from_json(self._transport.send("POST", "/v1/jobs", body=body).body)

    def get(self, job_id: str) -> Job:
        """Look a job up."""
        return Job.from_json(self._transport.send("GET", f"/v1/jobs/{segment(job_id)}").body)

    def list(self, *, workflow: str | None = None, status: str | None = None, page_size: int = 50) -> Iterator[Job]:
        """Yield the organization's jobs, the newest first."""
        query = {"workflow": workflow, "status": status}
        return pages.each(self._transport, "/v1/jobs", model=Job, page_size=page_size, query=query)

    def generations(self, job_id: str, *, status: str | None = None, page_size: int = 50) -> Iterator[Generation]:
        """Yield all generations of a job, of which the job itself shows only 50."""
        path = f"/v1/jobs/{segment(job_id)}/generations"
        return pages.each(self._transport, path, model=Generation, page_size=page_size, query={"status": status})

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: what is not finished ends, and its credits come back; what is finished is kept and charged.

        The job may still be `cancelling`, while a last image is stored. One that has ended stays as it ended.
        """
        return self._told(job_id, "cancel")

    def sync(self, job_id: str) -> Job:
        """Have AI providers asked now for what they have of a job; it is returned as it is yet."""
        return self._told(job_id, "sync")

    def retry(
        self,
        job_id: str,
        *,
        generation_ids: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        quote_id: str | None = None,
        on_insufficient: str | None = None,
        deadline_seconds: int | None = None,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Have failed generations of an ended job made again, by a new job, which is returned.

        Args:
            job_id: the job that has ended; it stays as it is.
            generation_ids: which of its failed generations; all of them unless given.
            settings: inputs to change, by name; none that names an upload, or decides how many generations there are.
            quote_id: as for `create`, as are the other arguments.
            on_insufficient: as the ended job had it unless given.
            deadline_seconds: likewise.
            wait_seconds: let the server wait for the new job's end, at most 60.
            idempotency_key: one of your own makes one job, however often you call.

        Raises:
            Conflict: the job has not ended, or nothing of it has failed.
            HoldRefused: it cannot be paid for.
        """
        ids = None if generation_ids is None else [*generation_ids]
        terms = terms_of(quote_id=quote_id, on_insufficient=on_insufficient, deadline_seconds=deadline_seconds)
        return made(
            self._transport,
            f"/v1/jobs/{segment(job_id)}/retry",
            {**terms_of(generation_ids=ids, settings=settings), **terms},
            wait_seconds=wait_seconds,
            idempotency_key=idempotency_key,
        )

    def attempts(self, job_id: str, *, live: bool = False, page_size: int = 50) -> Iterator[Attempt]:
        """Yield what was sent to AI providers for a job; with ``live``, only what they are at work on now."""
        path = f"/v1/jobs/{segment(job_id)}/attempts"
        query = {"live": "true" if live else None}
        return pages.each(self._transport, path, model=Attempt, page_size=page_size, query=query)

    def timeline(self, job_id: str) -> Sequence[TimelineStep]:
        """Return what happened to a job, in its order."""
        path = f"/v1/jobs/{segment(job_id)}/timeline"
        return pages.items(self._transport.send("GET", path).body, model=TimelineStep)

    def receipt(self, job_id: str) -> Receipt:
        """Return what a job cost, with all its lines."""
        path = f"/v1/jobs/{segment(job_id)}/receipt"
        body = self._transport.send("GET", path, query={"limit": _LINES_PER_PAGE}).body
        page = body.get("lines") if isinstance(body, Mapping) else None
        lines = pages.rows(page)
        while after := pages.next_cursor(page):
            query = {"limit": _LINES_PER_PAGE, "after": after}
            page = self._transport.send("GET", path, query=query).body["lines"]
            lines += pages.rows(page)
        return Receipt.from_json({**body, "lines": lines})

    def wait(
        self,
        job: Job | str,
        *,
        timeout_seconds: float = 600.0,
        poll_seconds: float | None = None,
        on_progress: Callable[[Job], None] | None = None,
    ) -> Job:
        """Ask again until the job has ended, and return it; ended is also `failed`, so look at its ``status``.

        Args:
            job: the job, or its id.
            timeout_seconds: how long to wait; a paused job may take longer than anybody likes.
            poll_seconds: how often to ask; as the server says (`Retry-After`) unless given.
            on_progress: called with the job whenever its status, phase, progress or waiting reason is another.

        Raises:
            JobNotFinished: the time is over; the job goes on.
        """
        job_id = job if isinstance(job, str) else job.id
        give_up_at = time.monotonic() + timeout_seconds
        told: tuple[Any, ...] | None = None
        while True:
            answer, seen = self._look(job_id, seconds=max(0.0, give_up_at - time.monotonic()))
            news = (seen.status, seen.phase, seen.progress, seen.waiting_reason)
            if on_progress and news != told:
                on_progress(seen)
            told = news
            if seen.ended:
                return seen
            pause = poll_seconds if poll_seconds is not None else answer.retry_after or _POLL_SECONDS
            left = give_up_at - time.monotonic()
            if left <= 0:
                text = f"job {job_id} is still {seen.status} after {timeout_seconds:g} s"
                raise JobNotFinished(text, code="job_not_finished", retryable=True, job=seen)
            time.sleep(min(pause, left))

    def _told(self, job_id: str, what: str) -> Job:
        path = f"/v1/jobs/{segment(job_id)}/{what}"
        return Job.from_json(self._transport.send("POST", path, repeatable=True).body)

    def _look(self, job_id: str, *, seconds: float) -> tuple[Answer, Job]:
        answer = self._transport.send("GET", f"/v1/jobs/{segment(job_id)}", retry_seconds=seconds)
        return answer, Job.from_json(answer.body)


def terms_of(**terms: Any) -> dict[str, Any]:
    """Return those of a job's terms that are given."""
    return {name: value for name, value in terms.items() if value is not None}


def made(
    transport: Transport, path: str, body: Mapping[str, Any], *, wait_seconds: int, idempotency_key: str | None
) -> Job:
    """Ask for a job at ``path``, and let the server wait for its end where that is wished."""
    wait_seconds = min(wait_seconds, LONGEST_PREFERRED_WAIT_SECONDS)
    answer = transport.send(
        "POST",
        path,
        body=body,
        headers={"Prefer": f"wait={wait_seconds}"} if wait_seconds > 0 else None,
        idempotency_key=idempotency_key,
        more_seconds=max(0, wait_seconds),
    )
    return Job.from_json(answer.body)
