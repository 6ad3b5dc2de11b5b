"""docs/failures.md: the failure taxonomy as people read it, printed from the table that decides."""

from services.generation.failures import SENDINGS_AT_MOST, TAXONOMY, Reason

_TOP = """\
# Why a generation fails

Written by `make contracts` from `services/generation/failures.py`, the table that decides. A failed generation is never
charged: what was held for it is given back. `reason` is the `reason` of GenerationFailed and the `failure.reason` of a
generation.

- **money**: `refunded` with the failure; `held` until it is known how the call ended, then refunded; `not_held`: it
  was never begun.
- **again by itself**: how often the same provider is asked again, and after how long. A provider that says when to come
  back is obeyed. An operation whose answer was lost is never sent blindly a second time.
- **bills**: how many bills of one vendor an operation can have led to that ends so. An image costs one. Each repetition
  of what vendors bill although nothing came of it (a withheld, empty or damaged result) may be one more: it is made
  with another seed, and what every try cost is in the AI operation log. Where reasons take turns it is {sendings} at
  most: no operation is sent to one vendor more often. An `outcome_unknown` may be a bill that nobody tells us of: it
  has no cost in the log, and `darkroom_operations_unknown` counts it.
- **other provider**: whether the next provider of the operation's route (`PROVIDER_ROUTES`) may do it instead; only
  where what was sent last is known not to have run, so that no two of them make the same. What waits to be sent to a
  model whose circuit is open, or that wants to be left alone for more than 30 s, goes there as well. A route that names
  one provider has none. That another did it is said: `fallback_from` of GenerationCompleted, `fallbacks` of
  JobFinished, the job's `warnings`, and the message about its end.
- **worth a retry**: whether the user may hope that the same request succeeds later (`retryable`).
- **alert**: what operators are told of: a rising `rate`, what lasts (`sustained`), what opens the `breaker`, what is
  `overdue`, `cost` without a result, and what is to be looked at now (`page`).

| reason | money | again by itself | bills | other provider | worth a retry | alert | what the user reads |
|---|---|---|---|---|---|---|---|
"""


_BOTTOM = """
## When a worker dies, or stands still, with a request at a vendor

| it had come to | what follows | bills |
|---|---|---|
| claimed, not yet written down as sent | the next worker sends it | 1 |
| written down as sent, no answer written down; the vendor can be searched (`replicate`) | it is looked for: found and \
kept, or certainly not there and sent again | 1 |
| the same; it cannot be searched (all others) | `outcome_unknown` once the vendor's time limit has passed; an answer \
that comes later is counted, with its cost, as `late` | 1, no image |
| taken by the vendor | another worker asks for it | 1 |
| its result in hand, or half stored; the vendor can be asked again | it is fetched again; the first deletes what it \
had stored, and what the dead left is an orphan for `bin/darkroom cleanup` | 1 |

A worker looks at the clock before it sends, and does not send what it wrote down too long ago. So two bills for one
image take one that stands still for three minutes in the very moment between that look and the request, at a vendor
that is searched meanwhile: both requests are in the log, and the late one is cancelled at the vendor.
`tests/flows/test_stopped_workers.py` and `make faults` hold the engine to this table.
"""


def page() -> str:
    """Return the page as Markdown."""
    rows = "".join(_row(reason) for reason in TAXONOMY.values())
    return _TOP.format(sendings=SENDINGS_AT_MOST) + rows + _BOTTOM


def _row(reason: Reason) -> str:
    cells = (
        f"`{reason.code}`",
        reason.money,
        _repetitions(reason),
        str(reason.bills_at_most),
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
