"""What tests start from: accounts, held jobs and events, with everything that does not matter filled in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.credits import accounts
from services.credits import handlers as credits_handlers
from shared.database import Database
from shared.events import GenerationCompleted, GenerationFailed, JobFinished, SettledLine
from shared.ids import new_id

VARIANT = "staging.variant"  # 10 credits
BASE_VIEWS = "tech_pack.base_views"  # 3 credits
SMALL_EDIT = "tech_pack.edit"  # 1 credit
ANALYSIS = "studio.analysis"  # free of charge
STUDIO_IMAGE = "studio.image"  # 1 plan generation


@dataclass(frozen=True)
class HeldJob:
    """A job whose lines are held."""

    job_id: str
    org_id: str
    line_ids: list[str]


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def given_account(db: Database, *, balance: int = 100, plan: str = "pro", org_id: str | None = None) -> str:
    """Open an account with so many credits and return its organization."""
    org_id = org_id or new_id("org")
    accounts.open_account(db, org_id=org_id, plan=plan, amount=balance)
    return org_id


def hold(
    db: Database,
    org_id: str,
    *skus: str,
    job_id: str | None = None,
    line_ids: list[str] | None = None,
    cost_microusd: int = 0,
    **asked: Any,
) -> dict[str, Any]:
    """Reserve one line per SKU, each with the same expected cost, and return the answer."""
    names = line_ids or [new_id("gen") for _ in skus]
    lines = [
        {"line_id": line_id, "sku": sku, "cost_microusd": cost_microusd}
        for line_id, sku in zip(names, skus, strict=True)
    ]
    return credits_handlers.reserve(
        db, org_id=org_id, job_id=job_id or new_id("job"), deadline_at=in_an_hour(), lines=lines, **asked
    )


def given_held_job(db: Database, org_id: str, *skus: str) -> HeldJob:
    """Hold one line per SKU, a staged variant unless said, for a new job."""
    job_id = new_id("job")
    answer = hold(db, org_id, *(skus or [VARIANT]), job_id=job_id)
    return HeldJob(job_id=job_id, org_id=org_id, line_ids=[line["line_id"] for line in answer["lines"]])


def generation_completed(
    job: HeldJob, *, line_id: str | None = None, amount: int = 10, **fields: Any
) -> GenerationCompleted:
    """Tell that a line's generation, the job's first unless said, has a result to be paid for."""
    line_id = line_id or job.line_ids[0]
    known: dict[str, Any] = {
        "job_id": job.job_id,
        "generation_id": line_id,
        "line_id": line_id,
        "amount": amount,
        "org_id": job.org_id,
        "user_id": None,
        "workflow": "staging",
        "images": [],
        "provider": "local",
        "model": "local-1",
        "duration_ms": 1,
        "provider_cost_microusd": 0,
    }
    return GenerationCompleted(**{**known, **fields})


def generation_failed(
    job: HeldJob, *, line_id: str | None = None, reason: str = "provider_error", **fields: Any
) -> GenerationFailed:
    """Tell that a line's generation, the job's first unless said, ended without a result."""
    line_id = line_id or job.line_ids[0]
    known: dict[str, Any] = {
        "job_id": job.job_id,
        "generation_id": line_id,
        "line_id": line_id,
        "org_id": job.org_id,
        "user_id": None,
        "workflow": "staging",
        "reason": reason,
        "message": "The provider failed.",
        "retryable": True,
    }
    return GenerationFailed(**{**known, **fields})


def captured(line_id: str, amount: int = 10) -> SettledLine:
    return SettledLine(line_id=line_id, outcome="captured", amount=amount)


def refunded(line_id: str, amount: int = 10, reason: str | None = "provider_error") -> SettledLine:
    return SettledLine(line_id=line_id, outcome="refunded", amount=amount, reason=reason)


def job_finished(job: HeldJob, *lines: SettledLine, status: str = "succeeded", **fields: Any) -> JobFinished:
    """Tell that a job ended, and how each of ``lines`` did."""
    done = sum(line.outcome == "captured" for line in lines)
    known: dict[str, Any] = {
        "job_id": job.job_id,
        "org_id": job.org_id,
        "user_id": None,
        "workflow": "staging",
        "status": status,
        "succeeded": done,
        "failed": len(lines) - done,
        "lines": list(lines),
    }
    return JobFinished(**{**known, **fields})
