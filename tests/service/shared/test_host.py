"""nameko as a host: timers and background methods that survive their errors, and processes that stop."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import eventlet
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider

from shared import budget, logs
from shared.config import Settings
from shared.health import Health
from shared.host import SettingsProvider, background, every
from shared.messaging import ANY, subscribe
from shared.topology import Binding
from tests.polling import until
from tests.service.shared import host_service
from tests.service.shared.outages import within
from tools.topology import bindings_of


class Work(DependencyProvider):
    """Gives the service what its methods do."""

    def get_dependency(self, _worker_ctx: Any) -> Any:
        return self.container.config["work"]


class Busy:
    """Does what the test says, every 50 ms and all the time."""

    name = "busy"
    settings = SettingsProvider()
    work = Work()

    @every(seconds=0.05)
    def tick(self) -> None:
        self.work["tick"]()

    @background
    def run(self, stopping: Callable[[], bool]) -> None:
        self.work["run"](stopping)


@contextmanager
def busy(*, tick: Callable[[], Any] = lambda: None, run: Callable[..., Any] = lambda _stopping: None) -> Iterator[Any]:
    settings: Settings = host_service.settings(database_url="postgresql://", amqp_url="amqp://")
    work = {"tick": tick, "run": run}
    container = ServiceContainer(Busy, config={"settings": settings, "health": Health(), "work": work})
    container.start()
    try:
        yield container
    finally:
        container.stop()


def wait_until(stopping: Callable[[], bool]) -> None:
    while not stopping():
        eventlet.sleep(0.01)


def test_a_timer_ticks_again_after_an_error_and_the_process_lives() -> None:
    ticks: list[float] = []

    def fail() -> None:
        ticks.append(time.monotonic())
        raise ZeroDivisionError

    with busy(tick=fail, run=wait_until) as container:
        until(lambda: len(ticks) >= 5)

        assert not container._died.ready()  # noqa: SLF001  nameko offers only a blocking wait


def test_a_timer_whose_call_takes_long_does_not_run_twice_at_once() -> None:
    running: list[int] = [0]
    most: list[int] = [0]

    def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        eventlet.sleep(0.12)
        running[0] -= 1

    with busy(tick=slow, run=wait_until):
        eventlet.sleep(0.5)

    assert most == [1]


def test_a_background_method_that_fails_is_started_again() -> None:
    starts: list[int] = []

    def fail_once(stopping: Callable[[], bool]) -> None:
        starts.append(len(starts))
        if len(starts) == 1:
            raise ZeroDivisionError
        wait_until(stopping)

    with busy(run=fail_once):
        until(lambda: len(starts) == 2)


def test_a_service_stops_once_its_background_method_has_ended() -> None:
    ended: list[bool] = []

    def run(stopping: Callable[[], bool]) -> None:
        wait_until(stopping)
        eventlet.sleep(0.2)
        ended.append(True)

    with within(3), busy(run=run):
        eventlet.sleep(0.1)

    assert ended == [True]


def test_stopping_twice_ends_as_quickly_as_once() -> None:
    with within(3), busy(run=wait_until) as container:
        threads = [eventlet.spawn(container.stop) for _ in range(2)]
        for thread in threads:
            thread.wait()


def test_a_timer_starts_without_the_correlation_and_budget_of_whoever_started_the_service() -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append((logs.correlation(), budget.remaining_seconds(9)))

    with logs.bound(correlation_id="req_1"), budget.limited_to(0.1), busy(tick=look, run=wait_until):
        until(lambda: seen)

    assert seen[0] == ((None, None), 9)


def test_a_subscription_to_any_event_is_bound_to_all_services() -> None:
    class Log:
        name = "notifications"

        @subscribe(ANY)
        def on_event(self, _events: Any) -> None:
            """Take any event."""

    assert bindings_of(Log, service="notifications") == [
        Binding(service="notifications", queue="notifications.on_event", event_types=None)
    ]


def test_a_check_that_fails_is_a_problem_like_any_other() -> None:
    def fail() -> str | None:
        raise ZeroDivisionError

    health = Health()
    health.register("good", lambda: None)
    health.register("bad", lambda: "it is down")
    health.register("broken", fail)

    assert health.problems() == {"bad": "it is down", "broken": "the check failed: ZeroDivisionError"}
