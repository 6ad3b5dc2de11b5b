"""docs/failures.md: the failure taxonomy as people read it, printed from the table that decides."""

from services.generation.failures import TAXONOMY, Reason

_TOP = """\
# Why a generation fails

Written by `make contracts` from `services/generation/failures.py`, the table that decides. A failed generation is never
charged: what was held for it is given back. `reason` is the `reason` of GenerationFailed and the `failure.reason` of a
generation.

- **money**: `refunded` with the failure; `held` until it is known how the call ended, then refunded; `not_held`: it
  was never begun.
- **again by itself**: how often the same provider is asked again, and after how long. A provider that says when to come
  back is obeyed. An operation whose answer was lost is never sent blindly a second time.
- **other provider**: whether the next provider of the operation's route (`PROVIDER_ROUTES`) may do it instead; only
  where the first is known not to have run, so that there are never two bills. A route that names one provider has none.
- **worth a retry**: whether the user may hope that the same request succeeds later (`retryable`).
- **alert**: what operators are told of: a rising `rate`, what lasts (`sustained`), what opens the `breaker`, what is
  `overdue`, `cost` without a result, and what is to be looked at now (`page`).

| reason | money | again by itself | other provider | worth a retry | alert | what the user reads |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown."""
    return _TOP + "".join(_row(reason) for reason in TAXONOMY.values())


def _row(reason: Reason) -> str:
    cells = (
        f"`{reason.code}`",
        reason.money,
        _repetitions(reason),
        reason.fallback,
        "yes" if reason.retryable else "no",
        "" if reason.alert == "none" else reason.alert,
        reason.message,
    )
    return f"| {' | '.join(cells)} |\n"


def _repetitions(reason: Reason) -> str:
    if not reason.waits_seconds:
        return "no"
    waits = ", ".join(f"{seconds:g} s" for seconds in reason.waits_seconds)
    return f"{waits}, another seed" if reason.new_seed else waits
