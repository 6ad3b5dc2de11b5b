"""The worker process: the scheduler, and the sweeps that keep every job from hanging. Any number may run."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta

from services.generation import metrics, model_lifecycle, providers, removing, rerouting, sweeper
from services.generation.coalescing import Follower
from services.generation.engine import engine_for
from services.generation.scheduler import Scheduler
from shared.host import Built, DatabaseProvider, SettingsProvider, StoreProvider, background, every
from shared.rpc import RpcClient


class GenerationWorker:
    """Takes operations to providers and brings results home."""

    name = "generation"
    db = DatabaseProvider()
    store = StoreProvider()
    settings = SettingsProvider()
    engine = Built(engine_for)
    credits_service = RpcClient("credits")
    suspects = Built(lambda _settings: sweeper.Suspects())

    @background
    def schedule(self, stopping: Callable[[], bool]) -> None:
        scheduler = Scheduler(
            self.db,
            self.store,
            self.engine,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            slots=self.settings.worker_slots,
            per_organization=self.settings.operations_per_organization,
        )
        scheduler.get_ready()
        scheduler.run(stopping)

    @background
    def follow_analyses(self, stopping: Callable[[], bool]) -> None:
        Follower(self.db, self.engine).run(stopping)

    @every(seconds=2)
    def reserve_again(self) -> None:
        sweeper.reserve_again(self.db, self.credits_service)

    @every(seconds=2)
    def recover_lost_operations(self) -> None:
        sweeper.recover_lost_operations(self.db, self.engine, self.suspects)

    @every(seconds=2)
    def go_elsewhere(self) -> None:
        rerouting.go_elsewhere(self.db, self.engine)

    @every(seconds=5)
    def measure(self) -> None:
        with self.db.transaction() as session:
            metrics.measure(session)

    @every(seconds=5)
    def end_overdue_jobs(self) -> None:
        sweeper.end_overdue_jobs(self.db)

    @every(seconds=5)
    def cancel_work_of_deleted_sessions(self) -> None:
        sweeper.cancel_work_of_deleted_sessions(self.db)

    @every(seconds=10)
    def tell_of_stalled_jobs(self) -> None:
        sweeper.tell_of_stalled_jobs(self.db)

    @every(seconds=10)
    def purge_deleted_images(self) -> None:
        removing.purge_due(self.db, self.store)

    @every(seconds=300)
    def forget_old_sources(self) -> None:
        providers.forget_old_sources(self.engine.providers)

    @every(seconds=60)
    def forget_old_attempts(self) -> None:
        sweeper.forget_old_attempts(self.db, kept=timedelta(days=self.settings.operation_log_days))

    @every(seconds=60)
    def forget_old_analyses(self) -> None:
        sweeper.forget_old_analyses(self.db, kept=self.engine.analyses_kept)

    @every(seconds=60)
    def end_long_pauses(self) -> None:
        sweeper.end_long_pauses(self.db)

    @every(seconds=3600)
    def tell_of_sunsets(self) -> None:
        model_lifecycle.tell_of_sunsets(self.db, self.engine)
