"""`make down`: ends the embedded stack within 20 s and leaves no process, Erlang's port mapper included."""

import contextlib
import signal
import time

import psutil

from deploy.local import home, processes, records
from deploy.local.home import Home

ORDERLY_SECONDS = 18.0
KILL_SECONDS = 2.0


def down(stack: Home) -> None:
    """End the stack in order, then whatever is left by force; says what it did."""
    if not stack.run.exists():
        print("The stack is not running.")
        return
    began = time.monotonic()
    with home.locked(stack):
        killed, ended = end_all(stack)
    if not ended:
        print("The stack is not running.")
        return
    for process in killed:
        print(f"  had to kill process {process.pid}")
    print(f"The stack is down ({time.monotonic() - began:.0f} s). Its data stays in {stack.folder}.")


def end_all(stack: Home) -> tuple[list[psutil.Process], int]:
    """End every process of the stack. Returns those that had to be killed, and how many there were in all."""
    recorded = records.read_all(stack)
    everything = processes.with_descendants(process for record in recorded for process in record.alive)
    supervisor = next((record.keeper for record in recorded if record.name == records.SUPERVISOR), None)
    if supervisor is not None:
        processes.send(signal.SIGTERM, [supervisor])
    else:  # it was killed: its keepers go on without it
        processes.send(signal.SIGTERM, [record.alive[0] for record in recorded if record.alive])
    left = processes.wait_until_gone(everything, timeout_seconds=ORDERLY_SECONDS)
    # What was started while the rest ended is only known to the later records.
    again = processes.with_descendants(process for record in records.read_all(stack) for process in record.alive)
    left = list({*left, *again})
    processes.send(signal.SIGKILL, left)
    processes.wait_until_gone(left, timeout_seconds=KILL_SECONDS)
    _end_port_mapper(stack)
    for file in (*stack.run.glob("*.json"), stack.prepared_file):
        file.unlink(missing_ok=True)
    return left, len(everything)


def _end_port_mapper(stack: Home) -> None:
    """End a port mapper that a rabbitmqctl of ours started, whom no keeper knows; it has our node's home."""
    folder = str(stack.folder / "rabbitmq" / "home")
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "epmd" and process.environ().get("HOME") == folder:
                process.terminate()
