"""`make up`: starts the embedded stack in the background and returns when every process is ready."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from deploy.local import databases, down, environment, home, postgres, programs, rabbitmq, readiness, records, servers
from deploy.local.environment import Settings
from deploy.local.home import CHECKOUT, Home
from deploy.local.names import PROCESSES, SERVICES
from deploy.local.programs import NotReady

READY_SECONDS = 180.0
HOPELESS_RESTARTS = 8  # within some 13 s: whatever ends that often will not come up by waiting


def up(stack: Home, *, hostile: bool = False) -> None:
    """Start what is not running and wait for it; with ``hostile``, AI vendors of our own that misbehave, too.

    Raises NotReady or RuntimeError with what to do about it.
    """
    began = time.monotonic()
    stack.make()
    with home.locked(stack):
        if records.read(stack, records.SUPERVISOR).keeper is not None:
            print("The stack is up already; what you give it now takes effect after `make down`.")
            variables = environment.read_file(stack)
            _wait_for_processes(stack, variables, deadline=began + READY_SECONDS)
        else:
            variables = _start(stack, hostile=hostile, deadline=began + READY_SECONDS)
    _tell(stack, variables, seconds=time.monotonic() - began)


def _start(stack: Home, *, hostile: bool, deadline: float) -> dict[str, str]:
    down.end_all(stack)  # what a killed supervisor may have left running
    settings = environment.decide(stack, hostile=hostile)
    environment.write_file(stack, settings)
    _make_server_folders(stack, settings)
    variables = os.environ | settings.variables
    _start_supervisor(stack, names=(*settings.servers, *settings.vendors, *PROCESSES), variables=variables)
    try:
        _prepare(stack, settings, variables=variables, deadline=deadline)
        stack.prepared_file.touch()
        _wait_for_processes(stack, settings.variables, deadline=deadline)
        _keep_credentials(stack, settings, variables=variables)
    except BaseException:  # an interrupt as well: half a stack is of no use to anybody
        print("Stopping what was started ...", flush=True)
        down.end_all(stack)
        raise
    return settings.variables


def _make_server_folders(stack: Home, settings: Settings) -> None:
    if settings.needs_postgres:
        server = servers.postgres_of(stack)
        if not server.data.exists():
            print(f"Making PostgreSQL's data in {server.data} ...", flush=True)
            stack.credentials_file.unlink(missing_ok=True)  # keys of an organization that is no longer there
        postgres.make_data(server)
    if settings.needs_rabbitmq:
        rabbitmq.make_folder(servers.rabbitmq_of(stack))


def _start_supervisor(stack: Home, *, names: tuple[str, ...], variables: Mapping[str, str]) -> None:
    for name in names:
        programs.trim(stack.log(name))
    log = stack.log(records.SUPERVISOR)
    programs.trim(log)
    print("Starting ...", flush=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.supervise", *names],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=_with_our_python(stack, variables),
            start_new_session=True,
        )
    programs.wait_until(
        lambda: records.read(stack, records.SUPERVISOR).keeper is not None,
        what="honcho",
        timeout_seconds=20,
        process=process,
        log=log,
    )


def _with_our_python(stack: Home, variables: Mapping[str, str]) -> dict[str, str]:
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{variables.get('PATH', os.defpath)}"  # noqa: PTH120
    return dict(variables) | {
        "PATH": path,
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "DARKROOM_HOME": str(stack.folder),
    }


def _prepare(stack: Home, settings: Settings, *, variables: Mapping[str, str], deadline: float) -> None:
    checks = readiness.server_checks(stack, settings.servers)
    if settings.needs_postgres:
        _wait(stack, {"postgres": checks.pop("postgres")}, deadline=deadline)
        _make_databases(stack, settings)
    print("Migrating the databases, declaring exchanges and queues ...", flush=True)
    with running_tool(stack, "migrate", variables=variables) as migration:  # RabbitMQ starts meanwhile
        _wait(stack, checks, deadline=deadline)
        with running_tool(stack, "topology", variables=variables) as topology:
            output_of(topology, name="topology")
        output_of(migration, name="migrate")


def _make_databases(stack: Home, settings: Settings) -> None:
    server = servers.postgres_of(stack)
    databases.close_cluster(server)
    for service in SERVICES:
        password = settings.secrets[f"postgres:{service}"]
        databases.create_service_database(server, name=service, password=password)


@contextlib.contextmanager
def running_tool(stack: Home, *arguments: str, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start `python -m tools ...` with the stack's settings; it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tools", *arguments],
        cwd=CHECKOUT,
        env=_with_our_python(stack, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tool:
        try:
            yield tool
        finally:
            tool.kill()


def output_of(tool: subprocess.Popen[str], *, name: str) -> str:
    """Wait for the tool `name`. Returns what it printed; raises NotReady with its words when it failed."""
    output, errors = tool.communicate()
    if tool.returncode != 0:
        raise NotReady(f"bin/darkroom {name} failed:\n{output}{errors}".rstrip())
    return output


def _wait_for_processes(stack: Home, variables: Mapping[str, str], *, deadline: float) -> None:
    _wait(stack, readiness.process_checks(variables), deadline=deadline)


def _wait(stack: Home, checks: Mapping[str, readiness.Check], *, deadline: float) -> None:
    def hopeful() -> bool:
        supervised = records.read(stack, records.SUPERVISOR).keeper is not None
        return supervised and not any(records.read(stack, name).restarts >= HOPELESS_RESTARTS for name in checks)

    pending = readiness.wait_for(checks, deadline=deadline, still_hopeful=hopeful)
    if not pending:
        return
    lines = ["The stack did not become ready." if hopeful() else "The stack cannot start: its processes end."]
    for name, reason in pending.items():
        lines += [f"--- {name}: {reason}. End of {stack.log(name)}:", programs.tail(stack.log(name))]
    raise NotReady("\n".join(lines))


def _keep_credentials(stack: Home, settings: Settings, *, variables: Mapping[str, str]) -> None:
    """Make the first organization once; afterwards only the addresses may change."""
    known = home.read_json(stack.credentials_file)
    if known is None:
        with running_tool(stack, "organization", "create", "--first", variables=variables) as tool:
            known = json.loads(output_of(tool, name="organization create"))
    content = {
        "gateway_url": settings.variables["GATEWAY_PUBLIC_URL"],
        "api_key": known["api_key"],
        "admin_key": settings.variables["ADMIN_API_KEY"],
        "org_id": known["org_id"],
    }
    if content != known:
        home.write_json(stack.credentials_file, content)


def _tell(stack: Home, variables: Mapping[str, str], *, seconds: float) -> None:
    credentials = home.read_json(stack.credentials_file) or {}
    gateway = variables["GATEWAY_PUBLIC_URL"]
    print(f"Darkroom is ready ({seconds:.0f} s).")
    print(f"  gateway   {gateway}")
    print(f"  docs      {gateway}/docs")
    print(f"  API key   {credentials.get('api_key', '(missing: make down, then make up)')}")
    if port := variables.get("HOSTILE_PROVIDERS_PORT"):
        print(f"  vendors   http://127.0.0.1:{port}/control (hostile: GET says how to direct them)")
    print(f"  settings  {stack.folder} (credentials.json, env, logs)")
    print("Next: make status, make logs [S=credits], make down.")
