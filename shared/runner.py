"""`python -m shared.runner <process>`: runs one process of the system until it is told to stop.

The first SIGTERM or SIGINT drains within a deadline, a second one ends the process at once.
"""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import os
import warnings

warnings.filterwarnings("ignore", message="\nEventlet is deprecated")
# eventlet's own resolver ignores parts of resolv.conf and hosts; what is checked must be what is connected to.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")

import eventlet

eventlet.monkey_patch()

import gc
import json
import logging
import resource
import signal
import sys
from importlib import import_module
from typing import Any

import eventlet.wsgi
import structlog
from nameko.containers import ServiceContainer
from prometheus_client import make_wsgi_app

from shared import config, logs
from shared.config import ConfigurationError, Settings
from shared.health import Health

log = structlog.get_logger(__name__)

PROCESSES = {
    "gateway": "services.gateway.service:Gateway",
    "credits": "services.credits.service:Credits",
    "generation": "services.generation.service:Generation",
    "generation-worker": "services.generation.worker:GenerationWorker",
    "catalog": "services.catalog.service:Catalog",
    "downloads": "services.downloads.service:Downloads",
    "notifications": "services.notifications.service:Notifications",
}
FILES_WANTED = 65_536
HUB_SECONDS = 1
_OBJECTS_BETWEEN_COLLECTIONS = 20_000


def main(process: str) -> int:
    """Run ``process``; return its exit status."""
    try:
        settings = config.load(process)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201  logging is not set up yet
        return 2
    logs.configure(process=process, level=settings.log_level)
    raise_file_limit()
    container, health = build(settings)
    collect_rarely()
    stopping = eventlet.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal(stopping))
    serve_ops(settings, health)
    container.start()
    log.info("process_started", pid=os.getpid(), process_class=PROCESSES[process])
    while not stopping.ready():
        with eventlet.Timeout(HUB_SECONDS, False):  # noqa: FBT003  eventlet's signature: end quietly
            stopping.wait()
        if container._died.ready():  # noqa: SLF001  nameko offers only a blocking wait
            log.critical("container_died")
            return 1
    return drain(container, seconds=settings.drain_seconds)


def build(settings: Settings) -> tuple[Any, Health]:
    """Make the nameko container of a process, and its health."""
    module_name, _, class_name = PROCESSES[settings.process].partition(":")
    service_class = getattr(import_module(module_name), class_name)
    health = Health()
    configuration: dict[str, Any] = {"settings": settings, "health": health, "max_workers": settings.max_workers}
    if settings.http_address:
        configuration["WEB_SERVER_ADDRESS"] = "{}:{}".format(*settings.http_address)
    return ServiceContainer(service_class, config=configuration), health


def drain(container: Any, *, seconds: float) -> int:
    """Stop taking work, let what runs end, for at most ``seconds``; return the exit status."""
    log.info("process_draining", seconds=seconds)
    finished = False
    with eventlet.Timeout(seconds, False):  # noqa: FBT003  eventlet's signature: end quietly
        container.stop()
        finished = True
    if not finished:
        log.warning("drain_deadline_passed", seconds=seconds)
    log.info("process_stopped")
    return 0


def raise_file_limit() -> None:
    """Allow as many open files as this user may have: nameko's accept loop dies when they run out."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def collect_rarely() -> None:
    """Leave all that is there now out of garbage collection, and collect the rest less often.

    Modules, tables and statements stay as long as the process. What work leaves behind goes at once but for a few
    cycles, and looking for those 700 objects at a time took a twentieth of a busy worker's processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


def serve_ops(settings: Settings, health: Health) -> None:
    """Serve /healthz, /readyz and /metrics on the operators' port."""
    metrics_app = make_wsgi_app()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics_app(environ, start_response)
        problems = health.problems() if path == "/readyz" else {}
        status = "404 Not Found" if path not in {"/healthz", "/readyz"} else "503 Not Ready" if problems else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [render_health(problems)]

    listener = eventlet.listen(settings.ops_address, reuse_port=False)
    eventlet.spawn(eventlet.wsgi.server, listener, app, log=logging.getLogger("ops"), log_output=False, debug=False)


def render_health(problems: dict[str, str]) -> bytes:
    """Return the body of /readyz: what is wrong, by name of the check."""
    return json.dumps({"status": "unready" if problems else "ok", "problems": problems}).encode()


def _on_signal(stopping: Any) -> Any:
    def handle(_number: int, _frame: Any) -> None:
        if stopping.ready():
            os._exit(1)
        stopping.send(None)

    return handle


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if len(arguments) != 1 or arguments[0] not in PROCESSES:
        print(f"usage: python -m shared.runner {{{'|'.join(PROCESSES)}}}", file=sys.stderr)  # noqa: T201  as above
        sys.exit(2)
    # os._exit: green threads that wait forever must not keep a drained process alive.
    status = main(arguments[0])
    logging.shutdown()
    os._exit(status)
