"""The embedded PostgreSQL and RabbitMQ of one stack: built from its ports and secrets, and run in the foreground."""

import contextlib
import os
import signal
from typing import NoReturn

import psutil

from deploy.local import accounts, home, postgres, programs, rabbitmq, secret
from deploy.local.home import Home


def postgres_of(stack: Home) -> postgres.Server:
    """The PostgreSQL server of the stack. Raises RuntimeError when it cannot run on this machine."""
    secrets = secret.load(stack)
    account = accounts.account_for_postgres((stack.folder / "postgres" / "data").resolve())
    return postgres.Server(
        data=postgres.place_for_data(stack.folder, account=account),
        port=home.read_json(stack.ports_file)["postgres"],
        programs=postgres.programs_for(account),
        account=account,
        password=secrets[f"postgres:{postgres.SUPERUSER}"],
    )


def rabbitmq_of(stack: Home) -> rabbitmq.Node:
    """The RabbitMQ node of the stack."""
    secrets = secret.load(stack)
    ports = home.read_json(stack.ports_file)
    return rabbitmq.Node(
        folder=stack.folder / "rabbitmq",
        name=secrets["rabbitmq:node"],
        port=ports["rabbitmq"],
        distribution_port=ports["rabbitmq_distribution"],
        epmd_port=ports["epmd"],
        password=secrets["rabbitmq:password"],
        cookie=secrets["rabbitmq:cookie"],
    )


def serve(stack: Home, name: str) -> NoReturn:
    """Become the server `name` (postgres, epmd or rabbitmq), on a leash of our own parent, its keeper."""
    if name == "postgres":
        _serve_postgres(postgres_of(stack))
    node = rabbitmq_of(stack)
    if name == "epmd":
        _become(rabbitmq.epmd_command(node), environment=rabbitmq.environment(node))
    # A node that finds no port mapper starts one, and nobody would end that one.
    programs.wait_until(lambda: programs.accepts_connections(node.epmd_port), what="epmd", timeout_seconds=10)
    _become([str(rabbitmq.find_scripts() / "rabbitmq-server")], environment=rabbitmq.environment(node))


def _serve_postgres(server: postgres.Server) -> NoReturn:
    _remove_stale_lock(server)
    leashed = programs.on_leash(
        postgres.command(server),
        account=server.account,
        on_parent_death=signal.SIGQUIT,
        parent=os.getppid(),
    )
    _become(leashed, environment=postgres.clean_environment())


def _remove_stale_lock(server: postgres.Server) -> None:
    """Remove PostgreSQL's lock file when its process id belongs to another program now, as after a reboot."""
    lock = server.data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
        holder = psutil.Process(int(lock.read_text().splitlines()[0]))
        if "postgres" not in holder.name():
            lock.unlink()


def _become(command: list[str], *, environment: dict[str, str]) -> NoReturn:
    os.execvpe(command[0], command, environment)  # noqa: S606 (no shell is wanted)
