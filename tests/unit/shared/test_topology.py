"""The topology as data: names and bindings that messages in queues depend on."""

from types import SimpleNamespace
from typing import Any

import pytest

from shared import topology
from shared.config import SERVICES
from shared.events import GenerationFailed, types


class Recorder:
    """Takes declarations and remembers them; a channel as far as the topology knows one."""

    def __init__(self) -> None:
        self.queues: dict[str, dict[str, Any]] = {}
        self.exchanges: dict[str, tuple[str, dict[str, Any]]] = {}
        self.bindings: list[tuple[str, str, str]] = []
        self.order: list[str] = []

    def queue_declare(self, name: str, *, durable: bool, auto_delete: bool, arguments: Any = None) -> Any:
        assert durable
        assert not auto_delete
        self.queues[name] = arguments or {}
        self.order.append(f"queue {name}")
        return SimpleNamespace(message_count=0)

    def exchange_declare(
        self, name: str, kind: str, *, durable: bool, auto_delete: bool, arguments: Any = None
    ) -> None:
        assert durable
        assert not auto_delete
        self.exchanges[name] = (kind, arguments or {})
        self.order.append(f"exchange {name}")

    def queue_bind(self, queue: str, exchange: str, routing_key: str = "") -> None:
        assert queue in self.queues
        assert exchange in self.exchanges
        self.bindings.append((queue, exchange, routing_key))
        self.order.append(f"{exchange} -{routing_key}-> {queue}")


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "1,5")
    recorder = Recorder()
    topology.declare_all(recorder, [topology.binding("credits", "on_generation_failed", GenerationFailed)])
    return recorder


def test_a_handlers_queue_is_named_by_service_and_method() -> None:
    item = topology.binding("credits", "on_generation_failed", GenerationFailed)

    assert item.queue == "credits.on_generation_failed"
    assert item.routes() == [("generation.events", "GenerationFailed")]


def test_a_handler_of_all_events_is_bound_to_every_service() -> None:
    routes = topology.binding("notifications", "on_event", None).routes()

    assert routes == [(f"{service}.events", "#") for service in SERVICES]


def test_every_event_type_belongs_to_a_service_whose_exchange_is_declared(declared: Recorder) -> None:
    for name, kind in types.items():
        assert f"{kind.SOURCE}.events" in declared.exchanges, name


def test_events_without_a_queue_go_to_the_alternate_exchange(declared: Recorder) -> None:
    for service in SERVICES:
        assert declared.exchanges[f"{service}.events"] == ("topic", {"alternate-exchange": "unrouted"})
    assert declared.queues["unrouted"]["x-overflow"] == "reject-publish"
    assert ("unrouted", "unrouted", "GenerationFailed") in declared.bindings


def test_the_alternate_queue_keeps_only_types_that_somebody_subscribed_to(declared: Recorder) -> None:
    assert [key for queue, _, key in declared.bindings if queue == "unrouted"] == ["GenerationFailed"]


def test_a_handlers_queue_gives_up_into_the_dead_letters_of_its_service(declared: Recorder) -> None:
    arguments = declared.queues["credits.on_generation_failed"]

    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-dead-letter-exchange"] == ""
    assert arguments["x-dead-letter-routing-key"] == "credits.dead-letters"
    assert "credits.dead-letters" in declared.queues


def test_every_service_has_a_retry_queue_for_each_delay(declared: Recorder) -> None:
    for service in SERVICES:
        for delay, milliseconds in ((1, 1000), (5, 5000)):
            name = f"{service}.retry.{delay}"
            assert declared.exchanges[name] == ("fanout", {})
            assert declared.queues[name]["x-message-ttl"] == milliseconds
            assert (name, name, "") in declared.bindings


def test_only_queues_of_requests_are_not_replicated(declared: Recorder) -> None:
    classic = {name for name, arguments in declared.queues.items() if arguments.get("x-queue-type") != "quorum"}

    assert classic == {f"{service}.rpc" for service in SERVICES}


def test_no_exchange_of_events_takes_messages_before_what_has_no_queue_yet_is_caught(declared: Recorder) -> None:
    assert declared.order[:4] == [
        "exchange unrouted",
        "queue unrouted",
        "unrouted -GenerationFailed-> unrouted",
        "exchange gateway.events",
    ]
