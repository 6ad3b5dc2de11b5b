"""Runs lines of the Procfile under honcho until told to stop: `python -m deploy.local.supervise NAME ...`."""

import os
import sys
from pathlib import Path

import honcho.manager
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from deploy.local import home, records

PROCFILE = Path(__file__).with_name("Procfile")
# honcho kills after 5 s, in the midst of an orderly end. A keeper bounds its own end; this is the net below it.
honcho.manager.KILL_WAIT = 19


def main(names: list[str]) -> None:
    """Run the named processes; returns when all have ended."""
    stack = home.find_home()
    lines = parse_procfile(PROCFILE.read_text()).processes
    with records.recorded(stack, records.SUPERVISOR, pid=os.getpid()):
        manager = Manager(Printer(sys.stdout, colour=False))
        for name in names:
            manager.add_process(name, lines[name])
        manager.loop()
    sys.exit(manager.returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
