"""What is worth telling people, and in which words: from an event to a notice. Pure; knows no table and no channel.

There is one notice per job or, where it belongs to one, per session: never one per image, and none for what a test key
asked for.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from shared.events import Event, JobFinished, QuotaThresholdReached, WebhookEndpointDisabled

# Steps on the way to something, which nobody waits for as such.
_SILENT_WORKFLOWS: Final = frozenset({"studio_analysis", "inspiration_analysis", "tech_pack_category"})
_COMPLETED: Final = frozenset({"succeeded", "partially_succeeded"})
_FAILED: Final = frozenset({"failed", "expired"})
_SESSIONS: Final = {"studio": "StudioSession", "staging": "Staging session"}
_UPGRADE: Final = "Upgrade your plan to go on without a limit."
_KINDS_OF_SESSIONS: Final = {"stu": "studio", "ses": "staging"}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What has come of a session so far, or of a job that is of none.

    ``total`` images were asked for, ``succeeded`` of them are there, ``fallbacks`` of these made by another provider
    than was asked first. It is ``completed`` if any of its jobs is; ``job_id`` is the newest of them.
    """

    job_id: str
    completed: bool
    succeeded: int
    total: int
    fallbacks: int


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something to tell: to ``user_id``, or where that is None to the owners of the organization.

    ``key`` is alike whenever the same thing is told; what ``goes_on`` is told anew under it once it says more.
    ``email_kind`` and ``browser_kind`` are the preferences that can keep it out of a channel; None stands for none.
    What is not ``mailed`` is in the inbox alone.
    """

    kind: str
    key: str
    org_id: str
    text: str
    goes_on: bool = False
    mailed: bool = True
    user_id: str | None = None
    email_kind: str | None = None
    browser_kind: str | None = None
    job_id: str | None = None
    session_id: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def notice_of(item: Event, *, standing: Standing | None = None) -> Notice | None:
    """Return what an event is to be told as, or None where it is not worth telling.

    ``standing`` is that of the session whose job has ended, where it is of one.
    """
    match item:
        case JobFinished():
            return _of_job(item, standing or _of_itself(item))
        case QuotaThresholdReached():
            return _of_quota(item)
        case WebhookEndpointDisabled():
            return _of_endpoint(item)
    return None


def counts_in_session(item: JobFinished) -> bool:
    """Tell whether what came of a job is a part of what its session has come to."""
    counted = item.livemode and item.workflow not in _SILENT_WORKFLOWS and item.status != "rejected"
    return item.session_id is not None and counted


def is_completed(item: JobFinished) -> bool:
    """Tell whether a job has ended well, in whole or in part."""
    return item.status in _COMPLETED


def label(workflow: str, session_name: str | None, *, session_id: str | None = None) -> str:
    """Return what a job is called in a sentence: its session's name, or what it does."""
    if session_name:
        kind = _KINDS_OF_SESSIONS.get((session_id or "").partition("_")[0], workflow)
        return f"{_SESSIONS.get(kind, 'Session')} '{session_name}'"
    return workflow.replace("_", " ").capitalize()


def _of_itself(item: JobFinished) -> Standing:
    return Standing(
        job_id=item.job_id,
        completed=is_completed(item),
        succeeded=item.succeeded,
        total=item.succeeded + item.failed,
        fallbacks=item.fallbacks,
    )


def _of_job(item: JobFinished, so_far: Standing) -> Notice | None:
    if not item.livemode:
        return None
    if item.workflow in _SILENT_WORKFLOWS:
        return _of_fallback(item)
    if item.status not in _COMPLETED | _FAILED:
        return None
    what = label(item.workflow, item.session_name, session_id=item.session_id)
    kind, ended = ("generation_completed", "complete!") if so_far.completed else ("generation_failed", "failed.")
    text = f"{what} {ended} {so_far.succeeded} of {so_far.total} images generated."
    if so_far.fallbacks:
        were = "was" if so_far.fallbacks == 1 else "were"
        text += f" {so_far.fallbacks} of them {were} made by another AI service than was asked first."
    return Notice(
        kind=kind,
        key=f"session/{item.session_id}" if item.session_id else f"{kind}/{item.job_id}",
        org_id=item.org_id,
        text=text,
        goes_on=item.session_id is not None,
        user_id=item.user_id,
        email_kind=kind,
        browser_kind="generation_completed",
        job_id=so_far.job_id,
        session_id=item.session_id,
        facts={
            "succeeded": so_far.succeeded,
            "failed": so_far.total - so_far.succeeded,
            "job_id": so_far.job_id,
            "what": what,
        },
    )


def _of_fallback(item: JobFinished) -> Notice | None:
    """Tell of a step that nobody waits for as such only that another has done it than was asked."""
    if not item.fallbacks:
        return None
    return Notice(
        kind="fallback",
        key=f"fallback/{item.workflow}/{item.session_id or item.job_id}",
        org_id=item.org_id,
        text=f"{label(item.workflow, None)} was done by another AI service than was asked first.",
        mailed=False,
        user_id=item.user_id,
        browser_kind="generation_completed",
        job_id=item.job_id,
        session_id=item.session_id,
    )


def _of_quota(item: QuotaThresholdReached) -> Notice:
    left = max(item.limit - item.used, 0)
    if left:
        used = f"You have used {item.percent} % of this month's {item.limit} generations; {left} are left."
    else:
        used = f"You have used all of this month's {item.limit} generations."
    return Notice(
        kind="low_quota",
        key=f"low_quota/{item.org_id}/{item.period_start}/{item.percent}",
        org_id=item.org_id,
        text=f"{used} {_UPGRADE}",
        browser_kind="low_quota_warning",
        facts={"limit": item.limit, "used": item.used, "left": left, "resets_at": item.resets_at},
    )


def _of_endpoint(item: WebhookEndpointDisabled) -> Notice:
    why = "it answered that it is gone" if item.reason == "gone" else "every delivery to it has failed for days"
    return Notice(
        kind="webhook_disabled",
        key=f"webhook_disabled/{item.endpoint_id}/{item.meta.id if item.meta else ''}",
        org_id=item.org_id,
        text=f"The webhook endpoint {item.endpoint_id} was disabled: {why}.",
        facts={"endpoint_id": item.endpoint_id, "why": why, "failing_since": item.failing_since},
    )
