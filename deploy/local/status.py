"""`make status`: one line per process, its id, its state and where to reach it."""

from collections.abc import Mapping

from deploy.local import environment, home, programs, providers, readiness, records
from deploy.local.home import Home
from deploy.local.names import PROCESSES, SERVERS


def status(stack: Home) -> bool:
    """Print the state of every process. Returns whether all that belong to the stack are ready."""
    variables = environment.read_file(stack)
    supervisor = records.read(stack, records.SUPERVISOR).keeper
    if supervisor is None and not any(record.alive for record in records.read_all(stack)):
        print("The stack is down. Start it with: make up")
        return False
    names = [name for name in SERVERS if records.read(stack, name).keeper is not None]
    checks = readiness.server_checks(stack, tuple(names)) | readiness.process_checks(variables)
    if port := variables.get("HOSTILE_PROVIDERS_PORT"):
        names.append(providers.HOSTILE)
        checks[providers.HOSTILE] = lambda: "" if programs.accepts_connections(int(port)) else "not listening yet"
    addresses = addresses_of(stack, variables)
    states = {}
    print(f"{'process':<18} {'pid':>8}  {'state':<9} address")
    for name in (*names, *PROCESSES):
        record = records.read(stack, name)
        reason = checks[name]()
        states[name] = state_of(record, reason=reason)
        pid = "-" if record.child is None else record.child.pid
        note = f"  ({reason})" if reason and states[name] == "starting" else ""
        print(f"{name:<18} {pid:>8}  {states[name]:<9} {addresses[name]}{note}")
    if supervisor is None:
        print("Their supervisor is gone: they run, but only `make down` and `make up` bring it back.")
    return set(states.values()) == {"ready"}


def state_of(record: records.Record, *, reason: str) -> str:
    """`ready`, `starting` (kept running, but not ready or between two starts) or `down` (nobody keeps it)."""
    if record.keeper is None:
        return "down"
    return "ready" if not reason else "starting"


def addresses_of(stack: Home, variables: Mapping[str, str]) -> dict[str, str]:
    """Where each process is reached: its service address where it has one, and its ops address."""
    ports = home.read_json(stack.ports_file)
    found = {name: f"127.0.0.1:{ports[name]}" for name in SERVERS}
    found[providers.HOSTILE] = f"127.0.0.1:{ports.get(providers.PORT)}"
    for process in PROCESSES:
        own = variables.get(f"{process.upper()}_ADDRESS")
        ops = f"ops {variables[environment.ops_setting(process)]}"
        found[process] = f"{own}, {ops}" if own else ops
    return found
