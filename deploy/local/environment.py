"""The settings the processes of one embedded stack run with: which port is whose, and the variables made of it.

Values the caller gives (AMQP_URL, <SERVICE>_DATABASE_URL, STORAGE_URL and every other) win, and those of the
first three kinds make their embedded server unnecessary.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local import home, ports, providers, rabbitmq, secret
from deploy.local.home import Home
from deploy.local.names import PROCESSES, SERVICES

PORTS = (
    "postgres",
    "rabbitmq",
    "rabbitmq_distribution",
    "epmd",
    "gateway",
    "downloads",
    *(f"{process}_ops" for process in PROCESSES),
    providers.PORT,
)
DATABASE_SETTINGS = tuple(f"{service.upper()}_DATABASE_URL" for service in SERVICES)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `up` decided: ports and secrets by name, and the variables of the processes."""

    ports: dict[str, int]
    secrets: dict[str, str]
    variables: dict[str, str]
    given: frozenset[str]

    @property
    def needs_postgres(self) -> bool:
        """Whether any service uses the embedded PostgreSQL."""
        return not self.given.issuperset(DATABASE_SETTINGS)

    @property
    def needs_rabbitmq(self) -> bool:
        """Whether the embedded RabbitMQ is used."""
        return "AMQP_URL" not in self.given

    @property
    def servers(self) -> tuple[str, ...]:
        """The embedded servers that run."""
        return (("postgres",) if self.needs_postgres else ()) + (("epmd", "rabbitmq") if self.needs_rabbitmq else ())

    @property
    def vendors(self) -> tuple[str, ...]:
        """The AI vendors of our own that run."""
        return (providers.HOSTILE,) if "HOSTILE_PROVIDERS_PORT" in self.variables else ()

    def ops_address(self, process: str) -> tuple[str, int]:
        """Host and port where the process serves /healthz, /readyz and /metrics."""
        host, _, port = self.variables[ops_setting(process)].rpartition(":")
        return host, int(port)


def ops_setting(process: str) -> str:
    """Name of the variable with the ops address of a process: GENERATION_WORKER_OPS_ADDRESS."""
    return f"{process.upper().replace('-', '_')}_OPS_ADDRESS"


def embedded(
    stack: Home, *, chosen: Mapping[str, int], secrets: Mapping[str, str], hostile: bool = False
) -> dict[str, str]:
    """The variables of a stack to which the caller gives nothing; ``hostile``: with AI vendors of our own."""
    postgres, host = chosen["postgres"], "127.0.0.1"
    databases = {
        setting: f"postgresql+psycopg2://{service}:{secrets[f'postgres:{service}']}@{host}:{postgres}/{service}"
        for setting, service in zip(DATABASE_SETTINGS, SERVICES, strict=True)
    }
    vendors = providers.variables(port=chosen[providers.PORT], secret=secrets["SIGNING_SECRET"]) if hostile else {}
    return {
        "AMQP_URL": f"amqp://{rabbitmq.USER}:{secrets['rabbitmq:password']}@{host}:{chosen['rabbitmq']}/%2F",
        **databases,
        "STORAGE_URL": stack.storage.as_uri(),
        "SMTP_URL": stack.mail.as_uri(),
        "GATEWAY_ADDRESS": f"{host}:{chosen['gateway']}",
        "GATEWAY_PUBLIC_URL": f"http://{host}:{chosen['gateway']}",
        "DOWNLOADS_ADDRESS": f"{host}:{chosen['downloads']}",
        "FILES_PUBLIC_URL": f"http://{host}:{chosen['downloads']}",
        **{ops_setting(process): f"{host}:{chosen[f'{process}_ops']}" for process in PROCESSES},
        **{name: secrets[name] for name in ("SIGNING_SECRET", "ENCRYPTION_KEYS", "ADMIN_API_KEY")},
        # This machine is its stack's only client, whatever runs on it: stories, benchmarks and tests all come from one
        # address and with one key. The defaults that are shipped would take them for an attack.
        "RATE_LIMIT_ADDRESS": "300000/minute",
        "RATE_LIMIT_CREDENTIAL": "240000/minute",
        "RATE_LIMIT_REFUSED_CREDENTIALS": "6000/minute",
        "EVENTLET_NO_GREENDNS": "yes",
        "LOG_LEVEL": "INFO",
        **vendors,
    }


def decide(stack: Home, *, environ: Mapping[str, str] = os.environ, hostile: bool = False) -> Settings:
    """Choose free ports (those of last time where they still are), then settle every variable.

    With ``hostile``, the AI vendors are a server of our own that misbehaves; see `providers`.

    Call it only while the stack is down: its own servers would make its ports look taken.
    """
    secrets = secret.load(stack)
    before: dict[str, int] = home.read_json(stack.ports_file) or {}
    chosen = choose_ports(before)
    home.write_json(stack.ports_file, chosen)
    defaults = embedded(stack, chosen=chosen, secrets=secrets, hostile=hostile)
    last_time = embedded(stack, chosen={**chosen, **before}, secrets=secrets, hostile=hostile)
    given = {
        # A shell that has loaded our own env file gives us back what we wrote: that is nothing given.
        name: environ[name]
        for name in defaults
        if environ.get(name)
        and environ[name] not in (defaults[name], last_time[name])
        # A real vendor's key has no business at a hostile one.
        and not (hostile and name in providers.NAMES)
    }
    return Settings(ports=chosen, secrets=secrets, variables=defaults | given, given=frozenset(given))


def choose_ports(before: Mapping[str, int]) -> dict[str, int]:
    """A free port per name: the one from before unless it is taken now."""
    kept = {name: port for name, port in before.items() if name in PORTS and ports.is_free(port)}
    chosen: dict[str, int] = {}
    for name in PORTS:
        chosen[name] = kept.get(name) or ports.pick(besides=[*chosen.values(), *kept.values()])
    return chosen


def write_file(stack: Home, settings: Settings) -> None:
    """Write `.local/env`: plain KEY=value lines, nothing quoted, not meant to be run by a shell."""
    home.write_private(
        stack.environment_file,
        "".join(f"{name}={value}\n" for name, value in settings.variables.items()),
    )


def read_file(stack: Home) -> dict[str, str]:
    """The variables of `.local/env`; empty when there is none."""
    try:
        lines = stack.environment_file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)
