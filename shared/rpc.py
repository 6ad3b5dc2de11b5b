"""RPC between services: transient messages, a time budget that travels, typed errors; one reply queue per process.

Only commands and reads behind an HTTP request use it, one hop deep; the saga itself is events. nameko's proxy has no
time limit and declares its reply queue anew; here the reply goes to RabbitMQ's direct reply-to
(https://www.rabbitmq.com/docs/direct-reply-to), which is never declared.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import eventlet
import msgspec
import structlog
from eventlet.event import Event as Answer
from eventlet.semaphore import Semaphore
from nameko.extensions import DependencyProvider, Entrypoint, ProviderCollector, SharedExtension

from shared import broker, budget, logs, metrics, problems
from shared.broker import Outgoing
from shared.host import forever, health_of, run_in_worker, settings_of
from shared.ids import new_id
from shared.rpc_batches import GatheredCalls, Gathers, answer_of
from shared.topology import declare_rpc, rpc_queue

log = structlog.get_logger(__name__)

DEFAULT_SECONDS = 2.0
CONCURRENCY = 40
_BUDGET_HEADER = "x-budget-ms"
_CORRELATION_HEADER = "x-correlation-id"
_DIRECT_REPLY = "amq.rabbitmq.reply-to"
_CONTENT_TYPE = "application/json"


class Link:
    """A connection that one green thread reads and many write to; writing takes turns.

    py-amqp packs frames into one buffer per connection, and eventlet forbids two writers on a socket.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.channel = connection.channel()
        self._turn = Semaphore(1)

    def send(self, message: Outgoing, *, mandatory: bool = True, **properties: Any) -> None:
        """Send a transient message."""
        with self._turn:
            try:
                broker.send(self.channel, message, delivery_mode=broker.TRANSIENT, mandatory=mandatory, **properties)
            except BaseException:
                # Half a message may be on the wire, interrupted by the caller's time limit: nothing can follow it.
                broker.cut(self.connection)
                raise

    def acknowledge(self, delivery_tag: int) -> None:
        """Acknowledge one delivery."""
        with self._turn:
            self.channel.basic_ack(delivery_tag)

    def read(self) -> None:
        """Read for at most a second, and keep the connection alive."""
        broker.read_events(self.connection, seconds=broker.IDLE_SECONDS)
        with self._turn:
            self.connection.heartbeat_tick()


class RpcConnection:
    """The calling side: one connection per process, any number of calls in flight."""

    def __init__(self, amqp_url: str, *, name: str) -> None:
        self._amqp_url = amqp_url
        self._name = name
        self._link: Link | None = None
        self._connected = Answer()
        self._pending: dict[str, Any] = {}
        self._backoff = broker.Backoff()
        self._stopping = False

    def run(self) -> None:
        """Hold the connection until `stop`; calls in flight when it breaks fail at once."""
        while not self._stopping:
            try:
                with broker.connected(self._amqp_url, name=self._name) as connection:
                    self._serve(Link(connection))
            except Exception as error:
                log.warning(
                    "rpc_interrupted",
                    error=str(error),
                    again_in_seconds=self._backoff.seconds,
                    exc_info=broker.unforeseen(error),
                )
            finally:
                self._disconnected()  # whatever went wrong: calls in flight would wait for nothing
            if not self._stopping:
                self._backoff.wait()

    def stop(self) -> None:
        """End after the current read."""
        self._stopping = True

    def problem(self) -> str | None:
        """Return why no call can be made, or None."""
        return None if self._link else "not connected to the broker for RPC"

    def call(self, service: str, method: str, arguments: Mapping[str, Any]) -> Any:
        """Call ``method`` of ``service`` and return its JSON value.

        The call may take what the request's budget has left; 2 s where there is none.

        Raises:
            Problem: the refusal the method raised, typed.
            Unavailable: no answer within the time, or no broker.
        """
        started = time.monotonic()
        outcome = "answered"
        try:
            return self._call(service, method, arguments)
        except problems.Unavailable:
            outcome = "unavailable"
            raise
        except problems.Problem:
            outcome = "refused"
            raise
        finally:
            metrics.rpc_seconds.labels(f"{service}.{method}", outcome).observe(time.monotonic() - started)

    def _call(self, service: str, method: str, arguments: Mapping[str, Any]) -> Any:
        call_id = new_id("call")
        answer = self._pending[call_id] = Answer()
        try:
            limit = budget.limit_seconds()
            seconds = DEFAULT_SECONDS if limit is None else limit
            with budget.interrupted_after(seconds, f"{service}.{method}"):
                link = self._link or self._connected.wait()
                link.send(
                    _request(service, method, arguments, call_id=call_id, seconds=seconds),
                    reply_to=_DIRECT_REPLY,
                    correlation_id=call_id,
                    # RabbitMQ drops it from the queue by then, so that a service that was down is not flooded.
                    expiration=str(max(1, int(seconds * 1000))),
                )
                return _result(answer.wait())
        except (budget.TimeLimitExceeded, *broker.BROKER_ERRORS) as error:
            log.warning("rpc_without_answer", service=service, method=method, error_type=type(error).__name__)
            raise problems.Unavailable(
                f"The {service} service did not answer in time. Nothing is lost: try again.", retry_after=1
            ) from error
        finally:
            del self._pending[call_id]

    def _serve(self, link: Link) -> None:
        link.channel.events["basic_return"].add(self._returned)
        link.channel.basic_consume(_DIRECT_REPLY, no_ack=True, callback=self._replied)
        self._link = link
        self._connected.send(link)
        self._backoff.reset()
        while not self._stopping:
            link.read()

    def _disconnected(self) -> None:
        if self._link:
            self._link = None
            self._connected = Answer()
        for answer in list(self._pending.values()):
            if not answer.ready():
                answer.send_exception(OSError("the broker's connection broke"))

    def _replied(self, message: Any) -> None:
        answer = self._pending.get(message.properties.get("correlation_id"))
        if answer is not None and not answer.ready():
            answer.send(message.body)

    def _returned(self, _error: Any, _exchange: str, routing_key: str, message: Any) -> None:
        answer = self._pending.get(message.properties.get("correlation_id"))
        if answer is not None and not answer.ready():
            answer.send_exception(OSError(f"there is no queue {routing_key}"))


def _request(service: str, method: str, arguments: Mapping[str, Any], *, call_id: str, seconds: float) -> Outgoing:
    correlation_id, _ = logs.correlation()
    headers: dict[str, Any] = {_BUDGET_HEADER: int(seconds * 1000)}
    if correlation_id:
        headers[_CORRELATION_HEADER] = correlation_id
    return Outgoing(
        body=msgspec.json.encode({"method": method, "arguments": arguments}),
        exchange="",
        routing_key=rpc_queue(service),
        message_id=call_id,
        content_type=_CONTENT_TYPE,
        headers=headers,
    )


def _result(body: bytes | str) -> Any:
    reply = msgspec.json.decode(body)
    if "problem" in reply:
        raise problems.from_dict(reply["problem"])
    return reply["result"]


class RpcServer(ProviderCollector, SharedExtension):
    """The answering side: takes requests from ``<service>.rpc`` and runs the methods in nameko's worker pool."""

    def __init__(self) -> None:
        super().__init__()
        self._stopping = False
        self._problem: str | None = "not taking RPC requests yet"
        self._backoff = broker.Backoff()

    def setup(self) -> None:
        """Tell the process's health about this queue."""
        self._settings = settings_of(self.container)
        self._pool = eventlet.GreenPool(CONCURRENCY)
        health_of(self.container).register("rpc", lambda: self._problem)

    def start(self) -> None:
        """Begin to take requests."""
        self._thread = forever(self, self._run, name="rpc server")

    def stop(self) -> None:
        """Take no further request, and wait until those at work are answered."""
        self._stopping = True
        self._thread.wait()

    def _run(self) -> None:
        while not self._stopping:
            try:
                with broker.connected(self._settings.amqp_url, name=f"{self._settings.process} rpc") as connection:
                    self._serve(Link(connection))
            except Exception as error:
                self._problem = f"not taking RPC requests: {type(error).__name__}"
                log.warning(
                    "rpc_server_interrupted",
                    error=str(error),
                    again_in_seconds=self._backoff.seconds,
                    exc_info=broker.unforeseen(error),
                )
                self._backoff.wait()

    def _serve(self, link: Link) -> None:
        queue = rpc_queue(self._settings.service)
        declare_rpc(link.channel, self._settings.service)
        link.channel.basic_qos(0, CONCURRENCY, False)  # noqa: FBT003  py-amqp's signature
        tag = link.channel.basic_consume(
            queue, callback=lambda message: self._pool.spawn_n(self._answer, link, message, time.monotonic())
        )
        self._problem = None
        self._backoff.reset()
        while not self._stopping:
            link.read()
        # Waiting for the broker's answer takes in what it had already sent; those callers get their answer too.
        link.channel.basic_cancel(tag)
        self._pool.waitall()

    def _answer(self, link: Link, message: Any, received: float) -> None:
        """Answer one request; one that was given out before, or is past its budget, has nobody waiting for it."""
        headers = message.headers or {}
        left = _budget_of(headers) - (time.monotonic() - received)
        with contextlib.suppress(*broker.BROKER_ERRORS):
            if left > 0 and not message.delivery_info.get("redelivered") and "reply_to" in message.properties:
                with budget.limited_to(left), logs.bound(correlation_id=headers.get(_CORRELATION_HEADER)):
                    reply = self._reply_to(message.body)
                link.send(
                    Outgoing(
                        body=reply, exchange="", routing_key=message.properties["reply_to"], content_type=_CONTENT_TYPE
                    ),
                    mandatory=False,  # a direct reply-to is no queue, and a caller that left needs no answer
                    correlation_id=message.properties.get("correlation_id", ""),
                )
            link.acknowledge(message.delivery_tag)

    def _reply_to(self, body: bytes | str) -> bytes:
        """Return the encoded answer to a request: a result, or the problem that stands for whatever was raised."""
        try:
            return msgspec.json.encode(self._run_method(body))
        except TypeError:
            log.exception("rpc_result_is_no_json")
            return msgspec.json.encode({"problem": problems.Problem().as_dict()})

    def _run_method(self, body: bytes | str) -> dict[str, Any]:
        method = "?"
        try:
            request = msgspec.json.decode(body)
            method = request["method"]
            provider = next((item for item in self._providers if item.method_name == method), None)
            if provider is None:
                raise problems.NotFound(f"The {self._settings.service} service has no method {method}.")  # noqa: TRY301  one place turns problems into replies
            return answer_of(run_in_worker(provider, **request["arguments"]))
        except Exception as error:  # noqa: BLE001  it is the answer
            return answer_of(error, method=method)


def _budget_of(headers: Mapping[str, Any]) -> float:
    milliseconds = headers.get(_BUDGET_HEADER)
    return milliseconds / 1000 if isinstance(milliseconds, int) else DEFAULT_SECONDS


class Rpc(Entrypoint):
    """Makes a method callable by other services: keyword arguments and a result of plain JSON values."""

    server = RpcServer()

    def setup(self) -> None:
        """Join the process's server."""
        self.server.register_provider(self)

    def stop(self) -> None:
        """Stop the server with the first of its methods, so that none is missing while it still answers."""
        self.server.stop()


rpc = Rpc.decorator


class _SharedConnection(ProviderCollector, SharedExtension):
    """The one RPC connection of a process."""

    def setup(self) -> None:
        settings = settings_of(self.container)
        self.calls = RpcConnection(settings.amqp_url, name=f"{settings.process} rpc client")
        health_of(self.container).register("rpc client", self.calls.problem)

    def start(self) -> None:
        forever(self, self.calls.run, name="rpc client")

    def stop(self) -> None:
        self.calls.stop()


class RpcClient(DependencyProvider):
    """Gives a service another one to call: ``credits = RpcClient("credits")``, then ``self.credits.balance(…)``.

    With ``gathers={"resolve": Gathers(twin="resolve_many")}`` the calls of a method that come while one is under way go
    together.
    """

    connection = _SharedConnection()

    def __init__(self, service: str, *, gathers: Mapping[str, Gathers] | None = None) -> None:
        self._service = service
        self._gathers = gathers or {}

    def setup(self) -> None:
        """Make the one object all workers of the process call through: only so can their calls gather."""
        self._remote = Remote(self._service, self._call, gathers=self._gathers)

    def get_dependency(self, _worker_ctx: Any) -> "Remote":
        """Return the other service."""
        return self._remote

    def _call(self, service: str, method: str, arguments: Mapping[str, Any]) -> Any:
        return self.connection.calls.call(service, method, arguments)  # which may be set up after this


class Remote:
    """Another service: its methods are called by name with keyword arguments.

    ``gathers`` names, by method, the twin that takes many calls at once (see `shared.rpc_batches`).
    """

    def __init__(
        self,
        service: str,
        call: Callable[[str, str, Mapping[str, Any]], Any],
        *,
        gathers: Mapping[str, Gathers] | None = None,
    ) -> None:
        self._service = service
        self._call = call
        self._gathered = {
            method: GatheredCalls(self._plain(method), self._plain(together.twin), size=together.size)
            for method, together in (gathers or {}).items()
        }

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """Return a function that calls ``method`` there; see `RpcConnection.call` for what it raises."""
        return self._gathered.get(method) or self._plain(method)

    def _plain(self, method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            return self._call(self._service, method, arguments)

        return call
