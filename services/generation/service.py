"""The engine's commands, queries and event handlers, as nameko sees them; the work itself is done by the worker."""

from functools import partial
from typing import Any

import structlog

from services.generation import (
    cancelling,
    contract,
    favorites,
    handlers,
    headshots,
    histories,
    lineage,
    model_lifecycle,
    oversight,
    planning,
    queries,
    removing,
    retrying,
    saved_styles,
    shares,
    sources,
    staging_histories,
    staging_sessions,
    tech_packs,
)
from services.generation.engine import engine_for
from services.generation.submissions import Submission
from shared.database import Batch
from shared.events import (
    CreditReserved,
    CreditsAdjusted,
    CreditsGranted,
    PlanChanged,
    ProviderCallbackReceived,
    RefundIssued,
    ReservationOverdue,
    SourceDeleted,
)
from shared.host import Built, DatabaseProvider, StoreProvider
from shared.messaging import subscribe
from shared.rpc import RpcClient, rpc
from shared.rpc_batches import answers_to

log = structlog.get_logger(__name__)


class Generation:
    """Jobs, generations, images."""

    name = "generation"
    db = DatabaseProvider()
    store = StoreProvider()
    engine = Built(engine_for)
    credits_service = RpcClient("credits")

    @rpc
    def quote(
        self, *, org_id: str, livemode: bool, workflow: str, inputs: dict[str, Any], assets: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        log.debug("quote_asked_for", org_id=org_id, workflow=workflow)
        engine = self.engine.in_mode(livemode=livemode)
        known = handlers.known_inputs(
            self.db, workflow=workflow, org_id=org_id, livemode=livemode, inputs=inputs, assets=assets
        )
        return planning.quote(engine, workflow_name=workflow, inputs=inputs, assets=known)

    @rpc
    def submit(self, **submission: Any) -> dict[str, Any]:
        return handlers.submit(self.db, self.credits_service, self.engine, Submission(**submission))

    @rpc
    def submit_many(self, *, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return answers_to(
            calls,
            read=lambda call: Submission(**call.arguments, correlation_id=call.correlation_id),
            run=lambda several: handlers.submit_many(self.db, self.credits_service, self.engine, several),
        )

    @rpc
    def job(self, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.job(session, org_id=org_id, livemode=livemode, job_id=job_id)

    @rpc
    def has_jobs(self, *, org_id: str, livemode: bool) -> bool:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.has_jobs(session, org_id=org_id, livemode=livemode)

    @rpc
    def jobs(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.jobs(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def job_generations(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.job_generations(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def cancel(self, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
        return cancelling.cancel(self.db, org_id=org_id, livemode=livemode, job_id=job_id)

    @rpc
    def sync(self, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
        return handlers.sync(self.db, org_id=org_id, livemode=livemode, job_id=job_id)

    @rpc
    def retry(self, **asked: Any) -> dict[str, Any]:
        return retrying.retry(self.db, self.credits_service, self.engine, **asked)

    @rpc
    def attempts(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return histories.attempts(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def timeline(self, *, org_id: str, livemode: bool, job_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return histories.timeline(session, org_id=org_id, livemode=livemode, job_id=job_id)

    @rpc
    def operation_log(self, **filters: Any) -> dict[str, Any]:
        return handlers.operation_log(self.db, **filters)

    @rpc
    def image(self, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.image(session, org_id=org_id, livemode=livemode, image_id=image_id)

    @rpc
    def image_provenance(self, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return lineage.of_image(session, org_id=org_id, livemode=livemode, image_id=image_id)

    @rpc
    def images(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.images(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def image_and_original(self, *, org_id: str, livemode: bool, image_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return sources.of_image(session, org_id=org_id, livemode=livemode, image_id=image_id)

    @rpc
    def mark_image(self, **asked: Any) -> dict[str, Any]:
        return favorites.mark_image(self.db, **asked)

    @rpc
    def headshots(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return headshots.page(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def headshot(self, *, org_id: str, livemode: bool, headshot_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return headshots.one(session, org_id=org_id, livemode=livemode, headshot_id=headshot_id)

    @rpc
    def headshot_stats(self, *, org_id: str, livemode: bool, user_id: str | None) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return headshots.stats(session, org_id=org_id, livemode=livemode, user_id=user_id)

    @rpc
    def mark_headshot(self, **asked: Any) -> dict[str, Any]:
        return favorites.mark_headshot(self.db, **asked)

    @rpc
    def delete_headshot(self, **asked: Any) -> None:
        removing.delete_headshot(self.db, self.store, **asked)

    @rpc
    def create_staging_session(self, **given: Any) -> dict[str, Any]:
        return staging_sessions.create(self.db, **given)

    @rpc
    def staging_session(self, *, org_id: str, livemode: bool, session_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return staging_histories.one(session, org_id=org_id, livemode=livemode, session_id=session_id)

    @rpc
    def staging_sessions(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return staging_histories.page(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def change_staging_session(self, **asked: Any) -> dict[str, Any]:
        return staging_sessions.change(self.db, **asked)

    @rpc
    def delete_staging_session(self, **asked: Any) -> None:
        staging_sessions.delete(self.db, **asked)

    @rpc
    def select_empty_room(self, **asked: Any) -> dict[str, Any]:
        return staging_sessions.select(self.db, **asked)

    @rpc
    def lock_empty_room(self, **asked: Any) -> dict[str, Any]:
        return staging_sessions.lock_empty_room(self.db, **asked)

    @rpc
    def generate_empty_room(self, *, retry_number: int, **order: Any) -> dict[str, Any]:
        return staging_sessions.generate_empty_room(
            self.db, self.credits_service, self.engine, retry_number=retry_number, order=order
        )

    @rpc
    def stage_session(self, *, inputs: dict[str, Any], **order: Any) -> dict[str, Any]:
        return staging_sessions.stage(self.db, self.credits_service, self.engine, inputs=inputs, order=order)

    @rpc
    def tech_pack(self, *, org_id: str, livemode: bool, **about: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return tech_packs.pack(session, org_id=org_id, livemode=livemode, **about)

    @rpc
    def save_style(self, *, org_id: str, livemode: bool, **given: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return saved_styles.create(session, org_id=org_id, livemode=livemode, **given)

    @rpc
    def style(self, *, org_id: str, livemode: bool, style_id: str) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return saved_styles.one(session, org_id=org_id, livemode=livemode, style_id=style_id)

    @rpc
    def styles(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return saved_styles.page(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def change_style(self, *, org_id: str, livemode: bool, **asked: Any) -> dict[str, Any]:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return saved_styles.change(session, org_id=org_id, livemode=livemode, **asked)

    @rpc
    def delete_style(self, *, org_id: str, livemode: bool, **asked: Any) -> None:
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            saved_styles.delete(session, org_id=org_id, livemode=livemode, **asked)

    @rpc
    def workflows(self) -> dict[str, Any]:
        return {"data": list(contract.documents().values())}

    @rpc
    def give_share(self, *, org_id: str, **share: int | None) -> dict[str, Any]:
        with self.db.transaction() as session:
            return shares.give(session, org_id=org_id, share=shares.Given(**share))  # type: ignore[arg-type]  # `give` checks the numbers

    @rpc
    def models(self) -> dict[str, Any]:
        with self.db.transaction() as session:
            return {"data": model_lifecycle.shown(session, self.engine)}

    @rpc
    def providers(self) -> dict[str, Any]:
        with self.db.transaction() as session:
            return {"data": oversight.providers(session, self.engine)}

    @subscribe(CreditReserved)
    def on_credit_reserved(self, events: Batch[CreditReserved]) -> None:
        self.db.once(events, handlers.queue_paid_jobs)

    @subscribe(ReservationOverdue)
    def on_reservation_overdue(self, events: Batch[ReservationOverdue]) -> None:
        self.db.once(events, handlers.answer_overdue)

    @subscribe(ProviderCallbackReceived)
    def on_provider_callback_received(self, events: Batch[ProviderCallbackReceived]) -> None:
        self.db.once(events, partial(handlers.ask_providers_now, engine=self.engine))

    @subscribe(PlanChanged)
    def on_plan_changed(self, events: Batch[PlanChanged]) -> None:
        self.db.once(events, handlers.ask_for_waiting_jobs)

    @subscribe(CreditsGranted)
    def on_credits_granted(self, events: Batch[CreditsGranted]) -> None:
        self.db.once(events, handlers.ask_for_waiting_jobs)

    @subscribe(CreditsAdjusted)
    def on_credits_adjusted(self, events: Batch[CreditsAdjusted]) -> None:
        self.db.once(events, handlers.ask_for_waiting_jobs)

    @subscribe(RefundIssued)
    def on_refund_issued(self, events: Batch[RefundIssued]) -> None:
        self.db.once(events, handlers.ask_for_waiting_jobs)

    @subscribe(SourceDeleted)
    def on_source_deleted(self, events: Batch[SourceDeleted]) -> None:
        self.db.once(events, sources.note_deleted)
