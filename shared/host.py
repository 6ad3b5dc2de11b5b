"""nameko as a thin host: running a method in its worker pool, a timer that survives errors, and the dependencies.

Domain code imports none of this; only the service classes do.
"""

import contextvars
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import eventlet
import structlog
from eventlet.event import Event as Answer
from nameko.extensions import DependencyProvider, Entrypoint

from shared.config import Settings
from shared.database import Database, is_unavailable
from shared.health import Health
from shared.outbox import Relay
from shared.storage import ObjectStore, open_store

log = structlog.get_logger(__name__)


def settings_of(container: Any) -> Settings:
    """Return the settings the runner gave this container."""
    settings: Settings = container.config["settings"]
    return settings


def health_of(container: Any) -> Health:
    """Return the readiness checks of this container's process."""
    health: Health = container.config["health"]
    return health


def run_in_worker(entrypoint: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the entrypoint's method in nameko's worker pool and wait; return its result or raise its exception.

    The caller's context (correlation id, time budget) goes along: nameko starts workers with an empty one.
    """
    answer = Answer()
    container = entrypoint.container
    worker = container.spawn_worker(entrypoint, args, kwargs, handle_result=partial(_hand_over, answer))
    thread = container._worker_threads.get(worker)  # noqa: SLF001  nameko is pinned and frozen; it offers no way
    if thread is not None:
        thread.gr_context = contextvars.copy_context()
    return answer.wait()


def _hand_over(answer: Any, _worker: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
    answer.send(result, exc_info)
    return None, None


def forever(entrypoint: Any, body: Callable[[], None], *, name: str) -> Any:
    """Run ``body`` in a green thread whose end, of whatever kind, never takes the container with it."""

    def guarded() -> None:
        while True:
            try:
                body()
            except Exception:
                log.exception("background_thread_failed", thread=name)
                eventlet.sleep(1)
            else:
                return

    return entrypoint.container.spawn_managed_thread(guarded, identifier=name)


class Timer(Entrypoint):
    """Calls a method every ``seconds``, in every replica: the method claims its work in the database."""

    def __init__(self, *, seconds: float, **kwargs: Any) -> None:
        self._seconds = seconds
        self._stopping = False
        self._thread: Any = None
        super().__init__(**kwargs)

    def start(self) -> None:
        """Begin to tick."""
        self._thread = forever(self, self._tick, name=f"timer {self.method_name}")

    def stop(self) -> None:
        """Let a running call end; nameko's own timer hangs here when it is asked twice."""
        self._stopping = True

    def _tick(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            if time.monotonic() < due:
                eventlet.sleep(min(0.2, due - time.monotonic()))
                continue
            due = time.monotonic() + self._seconds
            self._call()

    def _call(self) -> None:
        try:
            run_in_worker(self)
        except Exception as error:
            if is_unavailable(error):
                log.warning("timer_postponed", timer=self.method_name, error_type=type(error).__name__)
            else:
                log.exception("timer_failed", timer=self.method_name)


every = Timer.decorator


class Background(Entrypoint):
    """Runs a method for as long as the process lives; it gets a function that says when to end, and may take its time.

    A method that fails is started again after a second.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._stopping = False
        super().__init__(**kwargs)

    def start(self) -> None:
        """Start the method."""
        self._thread = forever(self, self._run, name=self.method_name)

    def stop(self) -> None:
        """Ask the method to end and wait until it has."""
        self._stopping = True
        self._thread.wait()

    def _run(self) -> None:
        run_in_worker(self, lambda: self._stopping)


background = Background.decorator


class Built(DependencyProvider):
    """Gives a service something made once per process by a function of its settings."""

    def __init__(self, build: Callable[[Settings], Any]) -> None:
        self._build = build

    def setup(self) -> None:
        """Make it."""
        self._made = self._build(settings_of(self.container))

    def get_dependency(self, _worker_ctx: Any) -> Any:
        """Return it."""
        return self._made


class SettingsProvider(DependencyProvider):
    """Gives a service its settings."""

    def get_dependency(self, _worker_ctx: Any) -> Settings:
        """Return the process's settings."""
        return settings_of(self.container)


class HealthProvider(DependencyProvider):
    """Gives a service the readiness checks of its process."""

    def get_dependency(self, _worker_ctx: Any) -> Health:
        """Return the process's health."""
        return health_of(self.container)


class StoreProvider(DependencyProvider):
    """Gives a service the object store."""

    def setup(self) -> None:
        """Open the store; no request is made yet."""
        self._store = open_store(settings_of(self.container).storage_url)

    def get_dependency(self, _worker_ctx: Any) -> ObjectStore:
        """Return the object store."""
        return self._store


class DatabaseProvider(DependencyProvider):
    """Gives a service its database, and runs the relay of its outbox beside it."""

    def setup(self) -> None:
        """Build the pool; no connection is made yet, so that a database that is down stops nothing."""
        settings = settings_of(self.container)
        self._database = Database(
            settings.database_url, application=settings.process, pool_size=min(settings.max_workers, 20)
        )
        self._relay = Relay(service=settings.service, database=self._database, amqp_url=settings.amqp_url)
        health = health_of(self.container)
        health.register("database", self._problem)
        health.register("relay", self._relay.problem)

    def start(self) -> None:
        """Start the relay."""
        self._thread = forever(self, self._relay.run, name="relay")

    def stop(self) -> None:
        """Let the relay finish its batch; what it leaves is sent by the next process."""
        self._relay.stop()
        self._thread.wait()

    def get_dependency(self, _worker_ctx: Any) -> Database:
        """Return the service's database."""
        return self._database

    def _problem(self) -> str | None:
        try:
            with self._database.transaction(time_limit_seconds=1.5):
                return None
        except Exception as error:  # noqa: BLE001  any failure here means the same: not ready
            return f"the database does not answer: {type(error).__name__}"
