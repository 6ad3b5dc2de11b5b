"""What a process knows of its own readiness: named checks, each saying what is wrong or nothing."""

from collections.abc import Callable

Check = Callable[[], str | None]


class Health:
    """The checks of one process. A dependency that is down makes it unready, never dead."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def register(self, name: str, check: Check) -> None:
        """Add a check: it returns what is wrong in words for an operator, or None; it must answer within 2 s."""
        self._checks[name] = check

    def problems(self) -> dict[str, str]:
        """Run all checks; return what is wrong, by name. Empty means ready."""
        found = {name: _result_of(check) for name, check in self._checks.items()}
        return {name: problem for name, problem in found.items() if problem}


def _result_of(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a check that fails is itself something wrong, not the end of the page
        return f"the check failed: {type(error).__name__}"
