"""Sign-ups that failed for a reason of ours: counted in memory, and told to whoever alerts operators.

The database may be what failed, so nothing is written there. What a process has not told when it dies is in its log.
"""

import threading
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog

from shared.problems import Problem, Unavailable
from shared.times import rfc3339

log = structlog.get_logger(__name__)


class FailedSignUps:
    """How many there were since they were told last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._error = ""
        self._since: datetime | None = None

    def note(self, error: Exception) -> None:
        """Count an error, unless it says what whoever signs up did wrong."""
        if isinstance(error, Problem) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return
        log.error("sign_up_failed", error_type=type(error).__name__)
        with self._lock:
            self._count += 1
            self._error = type(error).__name__
            self._since = self._since or datetime.now(UTC)

    def report(self, notifications: Any) -> None:
        """Tell of them, if there are any; what cannot be told now is told the next time."""
        with self._lock:
            count, error, since = self._count, self._error, self._since
        if since is None:
            return
        try:
            notifications.report_failed_sign_ups(count=count, error=error, since=rfc3339(since))
        except Unavailable:
            log.warning("failed_sign_ups_not_told", count=count)
            return
        with self._lock:
            self._count -= count
            self._since = datetime.now(UTC) if self._count else None
