"""What is worth telling people, and in which words: from an event to a notice. Pure; knows no table and no channel.

There is one notice per job, never one per image, and none for what a test key asked for.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from shared.events import Event, JobFinished, QuotaThresholdReached, WebhookEndpointDisabled

OWNERS: Final = "owners"
MEMBERS: Final = "members"
# Steps on the way to something, which nobody waits for as such.
_SILENT_WORKFLOWS: Final = frozenset({"studio_analysis", "inspiration_analysis", "tech_pack_category"})
_COMPLETED: Final = frozenset({"succeeded", "partially_succeeded"})
_FAILED: Final = frozenset({"failed", "expired"})
_SESSIONS: Final = {"studio": "StudioSession", "staging": "Staging session"}


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something to tell: to ``user_id``, or to the ``owners`` or ``members`` of the organization.

    ``key`` is alike whenever the same thing is told. ``email_kind`` and ``browser_kind`` are the preferences that can
    keep it out of a channel; None stands for none.
    """

    kind: str
    key: str
    org_id: str
    text: str
    to: str = OWNERS
    user_id: str | None = None
    email_kind: str | None = None
    browser_kind: str | None = None
    job_id: str | None = None
    session_id: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def notice_of(item: Event) -> Notice | None:
    """Return what an event is to be told as, or None where it is not worth telling."""
    match item:
        case JobFinished():
            return _of_job(item)
        case QuotaThresholdReached():
            return _of_quota(item)
        case WebhookEndpointDisabled():
            return _of_endpoint(item)
    return None


def label(workflow: str, session_name: str | None) -> str:
    """Return what a job is called in a sentence: its session's name, or what it does."""
    if session_name:
        return f"{_SESSIONS.get(workflow, 'Session')} '{session_name}'"
    return workflow.replace("_", " ").capitalize()


def _of_job(item: JobFinished) -> Notice | None:
    if not item.livemode or item.workflow in _SILENT_WORKFLOWS or item.status not in _COMPLETED | _FAILED:
        return None
    total = item.succeeded + item.failed
    what = label(item.workflow, item.session_name)
    if item.status in _COMPLETED:
        kind, text = "generation_completed", f"{what} complete! {item.succeeded} of {total} images generated."
    else:
        kind, text = "generation_failed", f"{what} failed. {item.succeeded} of {total} images generated."
    return Notice(
        kind=kind,
        key=f"{kind}/{item.job_id}",
        org_id=item.org_id,
        text=text,
        user_id=item.user_id,
        email_kind=kind,
        browser_kind="generation_completed",
        job_id=item.job_id,
        session_id=item.session_id,
        facts={"succeeded": item.succeeded, "failed": item.failed, "job_id": item.job_id, "what": what},
    )


def _of_quota(item: QuotaThresholdReached) -> Notice:
    left = max(item.limit - item.used, 0)
    if left:
        text = f"You have used {item.percent} % of this month's {item.limit} generations; {left} are left."
    else:
        text = f"You have used all of this month's {item.limit} generations. Upgrade to go on."
    return Notice(
        kind="low_quota",
        key=f"low_quota/{item.org_id}/{item.period_start}/{item.percent}",
        org_id=item.org_id,
        text=text,
        to=MEMBERS,
        email_kind=None,
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
