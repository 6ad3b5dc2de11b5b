"""The miniature service as a process of its own, under the real runner: `python -m tests.service.shared.host_process`.

Tests start it to kill it: at a crash point, or with the signals an operator sends.
"""

import logging
import os

from shared import runner  # first: it patches the process

if __name__ == "__main__":
    runner.PROCESSES["credits"] = "tests.service.shared.host_service:Mini"
    status = runner.main("credits")
    logging.shutdown()
    os._exit(status)
