"""What the ledger is asked for and what it answers, as plain values. Knows no database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.events import HeldLine
from shared.problems import BadRequest

CACHE_HIT = "cache_hit"


class UnknownSku(BadRequest):
    """No price is in force for the SKU, and nothing is free by default."""

    code = "unknown_sku"
    title = "There is no price for this"


@dataclass(frozen=True, kw_only=True)
class Wallet:
    """A balance: free and held amounts, and the number of changes of the wallet that led to it."""

    available: int
    held: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """Lines to hold for one job: ``lines`` maps each line's id to its SKU."""

    org_id: str
    job_id: str
    deadline_at: datetime
    lines: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What one request took from the wallet of one unit, and that wallet after it."""

    unit: str
    amount: int
    available: int
    version: int
    line_ids: list[str]


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """A granted request: all its lines, and in ``holds`` what was not held before. No id: all lines are free."""

    reservation_id: str | None
    lines: list[HeldLine]
    holds: list[Hold]
    wallet: Wallet


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a line ended: ``amount`` is captured, at most what is held; the rest is given back for ``reason``."""

    job_id: str
    line_id: str
    org_id: str
    amount: int
    reason: str = CACHE_HIT


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A line that ended now; ``available`` and ``version`` are the wallet's after its refund, if there was one."""

    reservation_id: str
    job_id: str
    line_id: str
    org_id: str
    unit: str
    captured: int
    refunded: int
    reason: str | None
    available: int | None
    version: int | None


def rounds(requests: Sequence[Request]) -> list[list[int]]:
    """Spread the places of ``requests``, from 0, over as few rounds as leave each job once in a round."""
    spread: list[list[int]] = []
    seen: dict[str, int] = {}
    for place, request in enumerate(requests):
        number = seen.get(request.job_id, 0)
        seen[request.job_id] = number + 1
        if number == len(spread):
            spread.append([])
        spread[number].append(place)
    return spread
