"""The ledger as a nameko service: wiring only."""

from typing import Any

from services.credits import (
    accounts,
    audit,
    handlers,
    history,
    nightly,
    prices,
    queries,
    quotes,
    receipts,
    seals,
)
from shared.database import Batch
from shared.events import GenerationCompleted, GenerationFailed, JobFinished
from shared.host import DatabaseProvider, every
from shared.messaging import subscribe
from shared.rpc import rpc
from shared.rpc_batches import answers_to

AUDIT_SECONDS = 300.0


class Credits:
    """Holds, spends and gives back credits; every movement is an entry, and the audit proves them."""

    name = "credits"
    db = DatabaseProvider()

    @rpc
    def open_account(self, *, org_id: str, plan: str, amount: int = 0) -> dict[str, Any]:
        """Open an organization's account."""
        return accounts.open_account(self.db, org_id=org_id, plan=plan, amount=amount)

    @rpc
    def quote(self, **asked: Any) -> dict[str, Any]:
        """Promise a price."""
        return quotes.quote(self.db, **asked)

    @rpc
    def take_test_quote(self, **asked: Any) -> dict[str, Any]:
        """Check a quote for a test key's job, and use it up."""
        return quotes.take_for_test(self.db, **asked)

    @rpc
    def prices(self, *, skus: dict[str, int]) -> dict[str, Any]:
        """Return what so many of each SKU cost now, and promise nothing."""
        with self.db.transaction() as session:
            return {"lines": quotes.priced(session, skus)}

    @rpc
    def reserve(self, **asked: Any) -> dict[str, Any]:
        """Hold the price of a job's lines."""
        return handlers.reserve(self.db, **asked)

    @rpc
    def reserve_many(self, *, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Hold the prices of many jobs, of any organizations."""
        return answers_to(
            calls,
            read=handlers.asked_by,
            run=lambda several: handlers.reserve_many(self.db, several),
        )

    @rpc
    def grant(self, **asked: Any) -> dict[str, Any]:
        """Give credits to an organization."""
        return accounts.grant(self.db, **asked)

    @rpc
    def adjust(self, **asked: Any) -> dict[str, Any]:
        """Correct an organization's wallet."""
        return accounts.adjust(self.db, **asked)

    @rpc
    def refund(self, **asked: Any) -> dict[str, Any]:
        """Give back what a job, or a generation of it, was charged."""
        return handlers.refund(self.db, **asked)

    @rpc
    def change_plan(self, *, org_id: str, plan: str, actor: str) -> dict[str, Any]:
        """Give an organization another plan."""
        return accounts.change_plan(self.db, org_id=org_id, plan=plan, actor=actor)

    @rpc
    def balance(self, *, org_id: str) -> dict[str, Any]:
        """Return what an organization has, holds, and may still use of its plan."""
        with self.db.transaction(org_id=org_id) as session:
            return queries.balance(session, org_id=org_id)

    @rpc
    def usage(self, *, org_id: str, since: str | None = None, until: str | None = None) -> dict[str, Any]:
        """Return what an organization used, day by day."""
        with self.db.transaction(org_id=org_id) as session:
            return queries.usage(session, org_id=org_id, since=since, until=until)

    @rpc
    def entries(self, *, org_id: str, **chosen: Any) -> dict[str, Any]:
        """Return an organization's history."""
        with self.db.transaction(org_id=org_id) as session:
            return history.entries(session, org_id=org_id, **chosen)

    @rpc
    def receipt(self, *, org_id: str, job_id: str, **page: Any) -> dict[str, Any]:
        """Return what a job held, was charged and got back."""
        with self.db.transaction(org_id=org_id) as session:
            return receipts.receipt(session, org_id=org_id, job_id=job_id, **page)

    @rpc
    def plans(self) -> dict[str, Any]:
        """Return the plans there are."""
        with self.db.transaction() as session:
            return queries.plans(session)

    @rpc
    def pricing(self) -> dict[str, Any]:
        """Return the prices in force."""
        with self.db.transaction() as session:
            return queries.pricing(session)

    @rpc
    def change_price(self, **asked: Any) -> dict[str, Any]:
        """Let a SKU cost something else from some time on."""
        return prices.change(self.db, **asked)

    @rpc
    def end_price(self, **asked: Any) -> dict[str, Any]:
        """Let a SKU have no price from some time on."""
        return prices.end(self.db, **asked)

    @rpc
    def invariants(self) -> dict[str, Any]:
        """Recompute the ledger and name what does not add up."""
        with self.db.transaction(time_limit_seconds=AUDIT_SECONDS) as session:
            return audit.run(session, grace=handlers.OVERDUE_AFTER)

    @subscribe(GenerationCompleted)
    def on_generation_completed(self, events: Batch[GenerationCompleted]) -> None:
        """Spend what was held for a result."""
        self.db.once(events, handlers.capture_completed_generations)

    @subscribe(GenerationFailed)
    def on_generation_failed(self, events: Batch[GenerationFailed]) -> None:
        """Give back what was held for a failure."""
        self.db.once(events, handlers.refund_failed_generations)

    @subscribe(JobFinished)
    def on_job_finished(self, events: Batch[JobFinished]) -> None:
        """Close the job and settle what it lists."""
        self.db.once(events, handlers.close_finished_jobs)

    @every(seconds=30)
    def report_overdue_reservations(self) -> None:
        """Ask how jobs ended that hold credits past their deadline."""
        handlers.report_overdue(self.db)

    @every(seconds=5)
    def expire_grants(self) -> None:
        """Take what has expired out of the wallets."""
        accounts.expire_grants(self.db)

    @every(seconds=3600)
    def prune_quotes(self) -> None:
        """Forget quotes nobody took."""
        quotes.prune(self.db)

    @every(seconds=5)
    def seal_entries(self) -> None:
        """Bind the newest entries into the chain of hashes."""
        seals.seal_entries(self.db)

    @every(seconds=60)
    def audit_nightly(self) -> None:
        """Prove the ledger once a night, and show what the newest proof found."""
        nightly.audit_nightly(self.db)
