"""The miniature service as a process: started with an environment, asked on its operators' port, ended by signals."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local import ports

ROOT = Path(__file__).parents[3]
SECRETS = {"SIGNING_SECRET": "s" * 40, "ENCRYPTION_KEYS": "e" * 40, "ADMIN_API_KEY": "a" * 40}


class Process:
    """One process of the miniature service; its output goes to ``log``."""

    def __init__(self, environment: dict[str, str], *, log: Path, files: int | None = None) -> None:
        self.ops_port = ports.pick()
        self.log = log
        command = [sys.executable, "-m", "tests.service.shared.host_process"]
        if files:
            command = ["sh", "-c", f'ulimit -S -n {files}; exec "$@"', "sh", *command]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "CREDITS_OPS_ADDRESS": f"127.0.0.1:{self.ops_port}",
                    "STORAGE_URL": "file:///nonexistent",
                    "RETRY_DELAYS_SECONDS": "1",
                    **SECRETS,
                    **environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ask(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of an operators' page; status 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ops_port}{path}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def is_ready(self) -> bool:
        """Tell whether all of it works."""
        return self.ask("/readyz")[0] == 200

    def has_ended(self) -> bool:
        """Tell whether it has ended; its exit status is then `status`."""
        return self.popen.poll() is not None

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self.popen.poll()

    def end(self) -> None:
        """Kill it, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()


@contextmanager
def started(environment: dict[str, str], *, log: Path, files: int | None = None) -> Iterator[Process]:
    """Run the miniature service as a process; it is killed when the block ends, if it still runs."""
    process = Process(environment, log=log, files=files)
    try:
        yield process
    finally:
        process.end()
