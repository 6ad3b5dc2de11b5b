"""The ledger against its rules in thirty lines: any order, any repetition, any batch; audited after every step."""

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from services.credits import accounts
from services.credits.ledger import UnknownLine
from shared.database import Database
from shared.events import Event
from shared.ids import new_id
from shared.problems import InsufficientCredits, JobClosed
from tests.builders import (
    ANALYSIS,
    BASE_VIEWS,
    SMALL_EDIT,
    VARIANT,
    HeldJob,
    captured,
    generation_completed,
    generation_failed,
    given_account,
    hold,
    job_finished,
    refunded,
)
from tests.service.credits.ledger_steps import balance, deliver, sent, violations

PRICES = {VARIANT: 10, BASE_VIEWS: 3, SMALL_EDIT: 1, ANALYSIS: 0}
Story = list[tuple[Event, list[tuple[str, str, int]]]]
LINES = ("gen_a", "gen_b", "gen_c")


class Model:
    """What an organization's credits must do."""

    def __init__(self, available: int) -> None:
        self.available = available
        self.open: dict[tuple[str, str], int] = {}
        self.settled: set[tuple[str, str]] = set()
        self.closed: set[str] = set()

    def reserve(self, job: str, lines: dict[str, str]) -> type[Exception] | None:
        new = {(job, line): PRICES[sku] for line, sku in lines.items() if not self.knows(job, line) and PRICES[sku]}
        if job in self.closed:
            return JobClosed
        if sum(new.values()) > self.available:
            return InsufficientCredits
        self.open.update(new)
        self.available -= sum(new.values())
        return None

    def settle(self, job: str, line: str, amount: int) -> None:
        held = self.open.pop((job, line), 0)
        self.available += held - min(held, amount)
        if held:
            self.settled.add((job, line))

    def knows(self, job: str, line: str) -> bool:
        return (job, line) in self.open or (job, line) in self.settled

    @property
    def held(self) -> int:
        return sum(self.open.values())


class Ledger(RuleBasedStateMachine):
    """One organization and three jobs, taken through everything that can happen to them."""

    db: Database

    @initialize(balance=st.integers(0, 40))
    def open(self, balance: int) -> None:
        self.org = given_account(self.db, balance=balance)
        self.model = Model(balance)
        self.jobs = [HeldJob(job_id=new_id("job"), org_id=self.org, line_ids=list(LINES)) for _ in range(3)]
        self.past: Story = []

    @rule(
        number=st.integers(0, 2),
        lines=st.dictionaries(st.sampled_from(LINES), st.sampled_from(list(PRICES)), min_size=1),
    )
    def reserve(self, number: int, lines: dict[str, str]) -> None:
        job = self.jobs[number]
        expected = self.model.reserve(job.job_id, lines)
        try:
            hold(self.db, self.org, *lines.values(), job_id=job.job_id, line_ids=list(lines))
            answer = None
        except (JobClosed, InsufficientCredits) as refusal:
            answer = type(refusal)
        assert answer is expected

    @rule(number=st.integers(0, 2), line=st.sampled_from(LINES), amount=st.integers(0, 12))
    def complete(self, number: int, line: str, amount: int) -> None:
        job = self.jobs[number]
        event = generation_completed(job, line_id=line, amount=amount)
        if amount and not self.model.knows(job.job_id, line):
            with pytest.raises(UnknownLine):
                deliver(self.db, event)
        else:
            self.happens([(event, [(job.job_id, line, amount)])])

    @rule(number=st.integers(0, 2), lines=st.lists(st.sampled_from(LINES), min_size=1))
    def fail(self, number: int, lines: list[str]) -> None:
        job = self.jobs[number]
        self.happens([(generation_failed(job, line_id=line), [(job.job_id, line, 0)]) for line in lines])

    @rule(number=st.integers(0, 2), ends=st.dictionaries(st.sampled_from(LINES), st.integers(0, 12)))
    def finish(self, number: int, ends: dict[str, int]) -> None:
        job = self.jobs[number]
        ends = {line: amount if self.model.knows(job.job_id, line) else 0 for line, amount in ends.items()}
        lines = [captured(line, amount) if amount else refunded(line) for line, amount in ends.items()]
        self.model.closed.add(job.job_id)
        self.happens([(job_finished(job, *lines), [(job.job_id, line, amount) for line, amount in ends.items()])])

    @rule(amount=st.integers(1, 20), times=st.integers(1, 2))
    def grant(self, amount: int, times: int) -> None:
        grant_id = new_id("grt")
        for _ in range(times):
            accounts.grant(
                self.db, grant_id=grant_id, org_id=self.org, amount=amount, kind="purchased", reason="r", actor="a"
            )
        self.model.available += amount

    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        deliver(self.db, *(event for event, _ in self.some_of_the_past(data)))

    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        self.happens([(msgspec.structs.replace(event, meta=None), ends) for event, ends in self.some_of_the_past(data)])

    def some_of_the_past(self, data: st.DataObject) -> Story:
        return data.draw(st.lists(st.sampled_from(self.past), min_size=1, max_size=4)) if self.past else []

    def happens(self, story: Story) -> None:
        """Let events happen whose ends are known, ``(event, [(job_id, line_id, amount)])`` each, in one batch."""
        told = [(sent(event), ends) for event, ends in story]
        for _, ends in told:
            for end in ends:
                self.model.settle(*end)
        self.past += told
        deliver(self.db, *(event for event, _ in told))

    @invariant()
    def the_ledger_is_sound_and_agrees_with_the_model(self) -> None:
        if hasattr(self, "model"):
            assert balance(self.db, self.org)[:2] == (self.model.available, self.model.held)
            assert violations(self.db) == []


def test_the_ledger_does_what_the_model_says(credits_db: Database) -> None:
    machine = type("LedgerOnDatabase", (Ledger,), {"db": credits_db})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
