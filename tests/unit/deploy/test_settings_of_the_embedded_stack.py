import socket
import stat
import subprocess
from pathlib import Path

import pytest

from deploy.local import environment, home, ports, secret
from deploy.local.home import Home
from deploy.local.names import PROCESSES, SERVICES

CHECKOUT = Path(__file__).resolve().parents[3]
DATABASE_URLS = {f"{service.upper()}_DATABASE_URL": f"postgresql+psycopg2://u:p@db/{service}" for service in SERVICES}


@pytest.fixture
def stack(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home of the stack")
    made.make()
    return made


def test_with_nothing_given_every_part_is_embedded_and_every_process_has_its_own_ops_port(stack: Home) -> None:
    settings = environment.decide(stack, environ={})

    assert settings.servers == ("postgres", "epmd", "rabbitmq")
    assert len({settings.variables[environment.ops_setting(process)] for process in PROCESSES}) == 7
    assert settings.variables["GENERATION_WORKER_OPS_ADDRESS"].startswith("127.0.0.1:")
    assert settings.variables["GATEWAY_PUBLIC_URL"] == f"http://{settings.variables['GATEWAY_ADDRESS']}"
    assert settings.variables["FILES_PUBLIC_URL"] == f"http://{settings.variables['DOWNLOADS_ADDRESS']}"
    assert settings.variables["AMQP_URL"].endswith("/%2F")
    assert settings.variables["STORAGE_URL"] == (stack.folder / "storage").as_uri()
    assert settings.variables["SMTP_URL"] == (stack.folder / "mail").as_uri()


def test_the_embedded_stack_lets_its_only_client_ask_as_often_as_it_likes_unless_told_otherwise(stack: Home) -> None:
    by_itself = environment.decide(stack, environ={}).variables
    told = environment.decide(stack, environ={"RATE_LIMIT_CREDENTIAL": "5/minute"}).variables

    assert by_itself["RATE_LIMIT_CREDENTIAL"] == "240000/minute"
    assert (told["RATE_LIMIT_ADDRESS"], told["RATE_LIMIT_CREDENTIAL"]) == ("300000/minute", "5/minute")


def test_each_service_has_a_database_and_a_password_of_its_own(stack: Home) -> None:
    settings = environment.decide(stack, environ={})

    urls = [settings.variables[name] for name in DATABASE_URLS]
    passwords = {url.split(":")[2].partition("@")[0] for url in urls}
    assert [url.rpartition("/")[2] for url in urls] == list(SERVICES)
    assert [url.split("//")[1].partition(":")[0] for url in urls] == list(SERVICES)
    assert len(passwords) == 6


def test_a_given_broker_replaces_the_embedded_one_and_nothing_else(stack: Home) -> None:
    settings = environment.decide(stack, environ={"AMQP_URL": "amqp://me:mine@broker:5672/%2F"})

    assert settings.servers == ("postgres",)
    assert settings.variables["AMQP_URL"] == "amqp://me:mine@broker:5672/%2F"


def test_postgresql_is_embedded_until_the_last_database_is_given(stack: Home) -> None:
    five = dict(list(DATABASE_URLS.items())[:5])

    with_five = environment.decide(stack, environ=five)
    with_six = environment.decide(stack, environ=DATABASE_URLS)

    assert with_five.needs_postgres
    assert not with_six.needs_postgres
    assert with_six.servers == ("epmd", "rabbitmq")


def test_a_shell_that_has_loaded_our_own_settings_gives_nothing(stack: Home) -> None:
    first = environment.decide(stack, environ={})
    environment.write_file(stack, first)

    second = environment.decide(stack, environ=environment.read_file(stack))

    assert second.given == frozenset()
    assert second.variables == first.variables


def test_our_own_settings_give_nothing_even_when_a_port_had_to_change(stack: Home) -> None:
    first = environment.decide(stack, environ={})
    with socket.create_server(("127.0.0.1", first.ports["rabbitmq"])):
        second = environment.decide(stack, environ=first.variables)

    assert second.ports["rabbitmq"] != first.ports["rabbitmq"]
    assert second.variables["AMQP_URL"].endswith(f":{second.ports['rabbitmq']}/%2F")
    assert second.needs_rabbitmq


def test_ports_stay_from_one_start_to_the_next_unless_they_are_taken(stack: Home) -> None:
    first = environment.decide(stack, environ={}).ports
    with socket.create_server(("127.0.0.1", first["gateway"])):
        second = environment.decide(stack, environ={}).ports

    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"gateway"}
    assert len(set(second.values())) == len(second)


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]

        assert not ports.is_free(taken)
    assert ports.is_free(taken)


def test_secrets_are_made_once_and_only_we_may_read_them(stack: Home) -> None:
    first = secret.load(stack)
    second = secret.load(stack)

    assert second == first
    assert stat.S_IMODE(stack.secrets_file.stat().st_mode) == 0o600
    assert min(len(value) for name, value in first.items() if name.isupper()) >= 32


def test_two_stacks_share_no_secret_and_no_node_name(tmp_path: Path) -> None:
    loaded = []
    for name in ("one", "two"):
        stack = Home(tmp_path / name)
        stack.make()
        loaded.append(set(secret.load(stack).values()))

    assert loaded[0].isdisjoint(loaded[1])


def test_the_settings_file_is_read_back_as_it_was_written_and_only_by_us(stack: Home) -> None:
    given = {"STORAGE_URL": "s3://bucket?endpoint=http://store:9000&region=eu 'west'"}
    settings = environment.decide(stack, environ=given)

    environment.write_file(stack, settings)

    assert environment.read_file(stack) == settings.variables
    assert stat.S_IMODE(stack.environment_file.stat().st_mode) == 0o600


def test_a_damaged_file_is_named_with_what_to_do(stack: Home) -> None:
    stack.ports_file.write_text('{"postgres": 2')

    with pytest.raises(RuntimeError, match=r"ports\.json is damaged .* remove it to have it made anew"):
        environment.decide(stack, environ={})


def test_darkroom_home_moves_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path / "elsewhere"))
    moved = home.find_home()
    monkeypatch.delenv("DARKROOM_HOME")

    assert moved.folder == tmp_path / "elsewhere"
    assert home.find_home().folder == CHECKOUT / ".local"


@pytest.fixture
def darkroom_in_a_copy(tmp_path: Path) -> Path:
    """Put bin/darkroom into a checkout whose Python prints the settings it is started with."""
    root = tmp_path / "check out"
    for folder in ("bin", ".venv/bin", ".local"):
        (root / folder).mkdir(parents=True)
    (root / "bin/darkroom").write_text((CHECKOUT / "bin/darkroom").read_text())
    python = root / ".venv/bin/python"
    python.write_text('#!/bin/sh\nprintf "%s|" "$STORAGE_URL" "$LOG_LEVEL" "$@"\n')
    python.chmod(0o755)
    (root / ".local/env").write_text("STORAGE_URL=s3://b?endpoint=$(id)&region=x\nLOG_LEVEL=INFO\n")
    return root / "bin/darkroom"


def test_bin_darkroom_loads_the_settings_as_they_are_and_lets_those_of_the_caller_win(
    darkroom_in_a_copy: Path,
) -> None:
    done = subprocess.run(
        ["/bin/sh", darkroom_in_a_copy, "audit", "a b"],
        env={"PATH": "/usr/bin:/bin", "LOG_LEVEL": "DEBUG"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "s3://b?endpoint=$(id)&region=x|DEBUG|-m|tools|audit|a b|"


def test_make_alone_explains_every_command() -> None:
    commands = [
        "help",
        "setup",
        "demo",
        "gallery",
        "up",
        "down",
        "status",
        "logs",
        "mail",
        "check",
        "test",
        "live",
        "bench",
        "faults",
        "hammer",
        "contracts",
    ]

    done = subprocess.run(["make", "-C", CHECKOUT], capture_output=True, text=True, check=True)

    explained = [words[0] for line in done.stdout.splitlines() if line.startswith("  ") and (words := line.split())]
    assert explained == commands
