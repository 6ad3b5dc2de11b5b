"""What the ledger promises one organization, in plain Python: grants that are spent in order, lines that take of them.

The reference of the state machine: it knows nothing of how the ledger does it. Amounts are small, so that a line can
name for each unit it holds the grant that unit came from.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

CREDITS, PLAN = "credits", "plan_generations"
NEVER = datetime.max.replace(tzinfo=UTC)
Key = tuple[str, str]  # a job, and a line of it
Refusal = tuple[str, dict[str, Any]]  # its code and figures


@dataclass
class Purse:
    """A grant, and how much is left of it."""

    unit: str
    left: int
    given_at: datetime
    expires_at: datetime = NEVER
    priority: int = 30


@dataclass
class Taken:
    """A line: the grants its units came from, in the order of spending; so many of them captured, from the first on."""

    unit: str
    sources: list[str]
    captured: int | None = None
    returned: int = 0

    @property
    def now(self) -> list[str]:
        """Return the sources of what it still takes."""
        return [] if self.returned else self.sources[: self.captured]


@dataclass
class Model:
    """The organization; ``limit`` is what its plan allows in a month (None: all), ``now`` is what time it is."""

    org_id: str
    limit: int | None
    now: datetime
    purses: dict[str, Purse] = field(default_factory=dict)
    lines: dict[Key, Taken] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    taken_back: list[str] = field(default_factory=list)

    def reserve(
        self, job: str, asked: dict[str, tuple[str, int]], *, partial: bool
    ) -> tuple[list[str], Refusal | None]:
        """Hold ``{line: (unit, price)}``: return those of them the job has then, and what stood against the others."""
        if job in self.closed:
            return [], ("job_closed", {})
        fresh = {line: need for line, need in asked.items() if (job, line) not in self.lines}
        if any(unit == PLAN for unit, _ in fresh.values()):
            self.open_allowance()
        held, refusal = self.fitting(fresh)
        if refusal and not (partial and (held or self.of(job))):
            return [], refusal
        if self.limit is None and (lacking := _sum(held, PLAN) - self.spendable(PLAN)) > 0:
            self.allowance.left += lacking
        for line, (unit, price) in held.items():
            if price:
                self.lines[job, line] = Taken(unit, [self.spend(unit) for _ in range(price)])
        return [line for line in asked if (job, line) in self.lines or line in held], refusal

    def fitting(self, fresh: dict[str, tuple[str, int]]) -> tuple[dict[str, tuple[str, int]], Refusal | None]:
        """Return the first lines that the means cover, and what stands against the next one."""
        held: dict[str, tuple[str, int]] = {}
        for line, (unit, price) in fresh.items():
            endless = unit == PLAN and self.limit is None
            if price and not endless and _sum(held, unit) + price > self.spendable(unit):
                return held, self.refusal(unit, asked=_sum(fresh, unit), affordable=len(held))
            held[line] = (unit, price)
        return held, None

    def refusal(self, unit: str, *, asked: int, affordable: int) -> Refusal:
        figures = {"unit": unit, "max_affordable": affordable}
        if unit == CREDITS:
            return "insufficient_credits", {**figures, "required": asked, "available": self.spendable(unit)}
        return "quota_exceeded", {**figures, "requested": asked, "limit": self.limit, "used": self.used}

    def settle(self, job: str, line: str, amount: int) -> tuple[int, int] | None:
        """Capture so much of an open line and give the rest back: return both, None where there is nothing open."""
        taken = self.lines.get((job, line))
        if taken is None or taken.captured is not None:
            return None
        taken.captured = min(amount, len(taken.sources))
        back = taken.sources[taken.captured :]
        self.put_back(f"{job}/{line}/returned", taken.unit, back)
        return taken.captured, len(back)

    def give_back(self, job: str, line: str | None) -> dict[str, int] | str:
        """Return what is given back of what was captured, now or before, or the code of the refusal."""
        chosen = {each: taken for each, taken in self.of(job).items() if line in (None, each)}
        for each, taken in chosen.items():
            if taken.captured and not taken.returned:
                self.put_back(f"{job}/{each}/charge-returned", taken.unit, taken.now)
                taken.returned = taken.captured
        returned = {each: taken.returned for each, taken in chosen.items() if taken.returned}
        return returned or ("conflict" if chosen else "not_found")

    def put_back(self, own_id: str, unit: str, sources: list[str]) -> None:
        """Credits of a grant that has expired become a grant of their own; all else goes back to where it came from."""
        for source in sources:
            if unit == CREDITS and self.purses[source].expires_at <= self.now:
                own = self.purses.setdefault(own_id, Purse(unit, 0, self.now))
                own.left += 1
                own.expires_at = self.now + timedelta(days=30)
            else:
                self.purses[source].left += 1

    def spend(self, unit: str) -> str:
        """Take one unit from the grant whose turn it is."""
        name, purse = min(
            ((name, purse) for name, purse in self.purses.items() if self.has(purse, unit)),
            key=lambda item: (item[1].expires_at, item[1].priority, item[1].given_at, item[0]),
        )
        purse.left -= 1
        return name

    def withdraw(self, unit: str, amount: int) -> bool:
        """Take back what is there; of this month's allowance it counts as used, and a refusal leaves no trace."""
        before = deepcopy(self.purses)
        if unit == PLAN:
            self.open_allowance()
        if amount > self.spendable(unit):
            self.purses = before
            return False
        self.taken_back += [self.spend(unit) for _ in range(amount)]
        return True

    def expire(self) -> dict[str, int]:
        """Return what was left of each grant that has expired; nothing is left now."""
        due = {name: purse for name, purse in self.purses.items() if purse.left and purse.expires_at <= self.now}
        found = {name: purse.left for name, purse in due.items()}
        for purse in due.values():
            purse.left = 0
        return found

    def change_plan(self, limit: int | None) -> None:
        self.limit = limit
        if limit is not None and self.allowance_id in self.purses:
            self.allowance.left = max(0, limit - self.used)

    def open_allowance(self) -> None:
        """A month begins with all its plan allows; later there is never more left than that less what is used."""
        if self.limit is not None:
            left = self.allowance.left if self.allowance_id in self.purses else self.limit
            self.allowance.left = min(left, max(0, self.limit - self.used))

    @property
    def allowance_id(self) -> str:
        return f"{self.org_id}/allowance/{self.now:%Y-%m}"

    @property
    def allowance(self) -> Purse:
        ends = (self.now.replace(day=1, hour=0, minute=0) + timedelta(days=32)).replace(day=1)
        return self.purses.setdefault(self.allowance_id, Purse(PLAN, 0, self.now, ends, 10))

    @property
    def used(self) -> int:
        by_lines = sum(taken.now.count(self.allowance_id) for taken in self.lines.values())
        return by_lines + self.taken_back.count(self.allowance_id)

    def available(self, unit: str) -> int:
        return sum(purse.left for purse in self.purses.values() if purse.unit == unit)

    def spendable(self, unit: str) -> int:
        return sum(purse.left for purse in self.purses.values() if self.has(purse, unit))

    def held(self, unit: str) -> int:
        return sum(len(each.sources) for each in self.lines.values() if each.unit == unit and each.captured is None)

    def has(self, purse: Purse, unit: str) -> bool:
        return purse.unit == unit and purse.left > 0 and purse.expires_at > self.now

    def of(self, job: str) -> dict[str, Taken]:
        return {line: taken for (each, line), taken in sorted(self.lines.items()) if each == job}


def _sum(lines: dict[str, tuple[str, int]], unit: str) -> int:
    return sum(price for each, price in lines.values() if each == unit)
