"""The miniature service as a process of its own, under the real runner: `python -m tests.service.shared.host_process`.

Tests start it to kill it: at a crash point, or with the signals an operator sends. ``HANDLER_SECONDS`` makes its
handlers take that long.
"""

import logging
import os

from shared import runner  # first: it patches the process

# isort: split
import time
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy.orm import Session

from shared.events import Event
from tests.service.shared import host_service

log = structlog.get_logger(__name__)


def take_long(session: Session, events: Sequence[Any]) -> list[Event]:
    log.info("handler_begun")
    time.sleep(float(os.environ["HANDLER_SECONDS"]))
    return host_service.leave_effects(session, events)


if __name__ == "__main__":
    if "HANDLER_SECONDS" in os.environ:
        host_service.plain_script.on_captured = take_long
    runner.PROCESSES["credits"] = "tests.service.shared.host_service:Mini"
    status = runner.main("credits")
    logging.shutdown()
    os._exit(status)
