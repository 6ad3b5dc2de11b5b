import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local import processes, programs, records
from deploy.local.home import Home

CHECKOUT = Path(__file__).resolve().parents[3]
LONG_SLEEP = ["sleep", "600"]
on_linux = sys.platform.startswith("linux")


@pytest.fixture
def stack(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.make()
    return made


Keep = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def keep(stack: Home) -> Iterator[Keep]:
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *options: str, command: list[str]) -> "subprocess.Popen[bytes]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "deploy.local.keep", name, *options, "--", *command],
                cwd=CHECKOUT,
                env=os.environ | {"DARKROOM_HOME": str(stack.folder)},
                stdout=subprocess.DEVNULL,
            )
        )
        return started[-1]

    yield start
    for keeper in started:
        keeper.kill()
        keeper.wait()


def eventually(true: Callable[[], object], *, seconds: float = 10) -> None:
    programs.wait_until(lambda: bool(true()), what="what the test waits for", timeout_seconds=seconds)


def child_of(stack: Home, name: str) -> psutil.Process | None:
    return records.read(stack, name).child


def kept_child(stack: Home, name: str) -> psutil.Process:
    eventually(lambda: child_of(stack, name))
    child = child_of(stack, name)
    assert child is not None
    eventually(lambda: child.name() == "sleep")
    return child


def test_a_killed_child_is_started_again(stack: Home, keep: Keep) -> None:
    keep("napper", command=LONG_SLEEP)
    first = kept_child(stack, "napper")

    first.kill()

    eventually(lambda: (child := child_of(stack, "napper")) is not None and child.pid != first.pid)
    assert records.read(stack, "napper").restarts == 1
    assert "ended (killed by SIGKILL)" in stack.log("napper").read_text()


def test_the_pause_between_starts_grows_while_a_child_keeps_ending(stack: Home, keep: Keep) -> None:
    keep("crasher", command=["sh", "-c", "exit 3"])

    eventually(lambda: records.read(stack, "crasher").restarts >= 3)

    told = [line for line in stack.log("crasher").read_text().splitlines() if "starting again" in line]
    assert [line.rpartition(" in ")[2] for line in told[:3]] == ["0.2 s", "0.4 s", "0.8 s"]
    assert all("exit code 3" in line for line in told)


def test_a_keeper_that_is_asked_to_stop_ends_its_child_in_order_and_leaves_no_record(stack: Home, keep: Keep) -> None:
    said = stack.folder / "said"
    script = f"trap 'echo goodbye > {said}; exit 0' TERM; sleep 600 & wait"
    keeper = keep("polite", command=["sh", "-c", script])
    eventually(lambda: child_of(stack, "polite"))
    child = child_of(stack, "polite")
    assert child is not None
    eventually(child.children)
    everything = [child, *child.children()]

    keeper.send_signal(signal.SIGTERM)

    assert keeper.wait(10) == 0
    assert said.read_text() == "goodbye\n"
    assert processes.wait_until_gone(everything, timeout_seconds=5) == []
    assert not (stack.run / "polite.json").exists()


def test_a_child_is_asked_with_the_signal_it_wants(stack: Home, keep: Keep) -> None:
    said = stack.folder / "said"
    script = f"trap 'echo fast > {said}; exit 0' INT; trap 'echo slow > {said}; exit 0' TERM; sleep 600 & wait"
    keeper = keep("database", "--stop-signal", "SIGINT", command=["sh", "-c", script])
    eventually(lambda: child_of(stack, "database"))
    child = child_of(stack, "database")
    assert child is not None
    eventually(child.children)

    keeper.send_signal(signal.SIGTERM)

    assert keeper.wait(10) == 0
    assert said.read_text() == "fast\n"


def test_a_server_outlives_those_that_need_it(stack: Home, keep: Keep) -> None:
    server = keep("server", "--stop-after", "user", command=LONG_SLEEP)
    user = keep("user", command=LONG_SLEEP)
    server_child, _ = kept_child(stack, "server"), kept_child(stack, "user")

    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # the only way to see that something does not happen

    assert not processes.is_gone(server_child)
    user.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0
    assert processes.is_gone(server_child)


def test_a_service_starts_only_when_databases_and_topology_are_prepared(stack: Home, keep: Keep) -> None:
    keep("service", "--start-when", "prepared", command=LONG_SLEEP)
    eventually(lambda: records.read(stack, "service").keeper)

    time.sleep(0.5)  # the only way to see that something does not happen

    assert child_of(stack, "service") is None
    stack.prepared_file.touch()
    kept_child(stack, "service")


@pytest.mark.xfail(not on_linux, reason="only Linux ends a child together with its parent", strict=True)
def test_a_child_does_not_outlive_a_keeper_that_is_killed(stack: Home, keep: Keep) -> None:
    keeper = keep("orphan", command=LONG_SLEEP)
    child = kept_child(stack, "orphan")

    keeper.kill()

    assert processes.wait_until_gone([child], timeout_seconds=5) == []


def test_a_process_id_that_was_given_out_again_is_not_taken_for_the_old_process(stack: Home) -> None:
    records.write(stack, "old", keeper_pid=os.getpid(), child_pid=None)
    file = stack.run / "old.json"
    content = json.loads(file.read_text())
    content["keeper"]["started"] -= 100
    file.write_text(json.dumps(content))

    assert records.read(stack, "old").keeper is None


def test_a_record_that_was_copied_with_a_checkout_names_no_process_of_the_copy(stack: Home, tmp_path: Path) -> None:
    copy = Home(tmp_path / "copy")
    copy.make()
    records.write(stack, "gateway", keeper_pid=os.getpid(), child_pid=None)

    (copy.run / "gateway.json").write_bytes((stack.run / "gateway.json").read_bytes())

    assert records.read(stack, "gateway").keeper is not None
    assert records.read(copy, "gateway").keeper is None


def test_a_log_past_its_limit_starts_anew_and_the_old_one_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "credits.log"
    with log.open("w") as file:
        file.truncate(programs.LOG_LIMIT_BYTES + 1)

    programs.trim(log)

    assert not log.exists()
    assert (tmp_path / "credits.log.old").stat().st_size == programs.LOG_LIMIT_BYTES + 1
