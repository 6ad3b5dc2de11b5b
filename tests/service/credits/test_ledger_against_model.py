"""The ledger against a model of its rules: any order, any repetition, crashes before the commit; audited all along."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.orm import Session

from services.credits import audit, ledger, queries, seals, usage
from services.credits.ledger import UnknownLine
from services.credits.models import Adjustment, Grant
from services.credits.movements import Outcome, Request, Reserved
from shared.database import Batch, Database
from shared.events import Event
from shared.ids import new_id
from shared.problems import Conflict, Problem
from tests.builders import (
    ANALYSIS,
    BASE_VIEWS,
    SMALL_EDIT,
    VARIANT,
    HeldJob,
    generation_completed,
    generation_failed,
    given_account,
    job_finished,
)
from tests.service.credits.ledger_steps import sent, violations
from tests.service.credits.model import CREDITS, NEVER, PLAN, Model, Purse, Refusal

IMAGE = "studio.image"
PRICES = {
    VARIANT: (CREDITS, 10),
    BASE_VIEWS: (CREDITS, 3),
    SMALL_EDIT: (CREDITS, 1),
    ANALYSIS: (CREDITS, 0),
    IMAGE: (PLAN, 1),
}
PLANS = {"small": 1, "middle": 3, "wide": None}
LINES = ("gen_a", "gen_b", "gen_c")
BEGIN = datetime(2031, 5, 30, 12, tzinfo=UTC)  # a month ends soon
DAY = timedelta(days=1)

T = TypeVar("T")
End = tuple[str, str, int]  # job, line, and what is captured of it
numbers, line_ids, skus = st.integers(0, 3), st.sampled_from(LINES), st.sampled_from(list(PRICES))
credit_skus = skus.filter(lambda sku: sku != IMAGE)
amounts = st.sampled_from([10, 3, 1, 0, 5, 12])
units, crashes = st.sampled_from([CREDITS, PLAN]), st.sampled_from([False, False, False, True])


class Crash(Exception):
    """The process ends just before it would have committed."""


class Ledger(RuleBasedStateMachine):
    """One organization and its newest jobs, taken through everything that can happen to them."""

    db: Database

    @initialize(plan=st.sampled_from(list(PLANS)), amount=st.integers(0, 12), expiring=st.integers(5, 12))
    def open(self, plan: str, amount: int, expiring: int) -> None:
        self.broken_before = violations(self.db)  # by an earlier example, in another organization
        self.org = given_account(self.db, plan=plan, balance=0)
        self.model = Model(self.org, PLANS[plan], BEGIN)
        self.jobs = [new_id("job") for _ in range(4)]  # the newest first; a job that ends makes room for another
        self.past: list[Event] = []
        self.ends: dict[str, tuple[bool, list[End]]] = {}  # by event: whether it closes its job, and how lines end
        if amount:
            self.grant(amount=amount, days=None, priority=20, times=1, crash=False)
        self.grant(amount=expiring, days=1, priority=20, times=1, crash=False)

    @rule(
        number=numbers, asked=st.dictionaries(line_ids, credit_skus, min_size=1), partial=st.booleans(), crash=crashes
    )
    def hold_credits(self, number: int, asked: dict[str, str], *, partial: bool, crash: bool) -> None:
        self.hold(self.jobs[number], asked, partial=partial, crash=crash)

    @rule(number=numbers, asked=st.sets(line_ids, min_size=1), partial=st.booleans(), crash=crashes)
    def hold_images(self, number: int, asked: set[str], *, partial: bool, crash: bool) -> None:
        self.hold(self.jobs[number], dict.fromkeys(sorted(asked), IMAGE), partial=partial, crash=crash)

    @rule(number=numbers, asked=st.dictionaries(line_ids, skus, min_size=2), partial=st.booleans(), crash=crashes)
    def hold_both(self, number: int, asked: dict[str, str], *, partial: bool, crash: bool) -> None:
        self.hold(self.jobs[number], asked, partial=partial, crash=crash)

    def hold(self, job: str, asked: dict[str, str], *, partial: bool, crash: bool) -> None:
        request = Request(org_id=self.org, job_id=job, deadline_at=NEVER, lines=asked, partial=partial)

        (answer,) = self.commit(
            lambda session: ledger.reserve(session, [request], now=self.model.now), crash=crash, org_id=self.org
        )

        expected = self.model.reserve(job, {line: PRICES[sku] for line, sku in asked.items()}, partial=partial)
        assert _told(answer) == expected

    @precondition(lambda self: self.model.lines)
    @rule(number=numbers, line=line_ids, amount=amounts, crash=crashes)
    def complete(self, number: int, line: str, amount: int, *, crash: bool) -> None:
        job = self.jobs[number]
        event = self.event(
            generation_completed(self.held_job(number), line_id=line, amount=amount), (job, line, amount)
        )
        if amount and (job, line) not in self.model.lines:
            with pytest.raises(UnknownLine):
                self.deliver([event], crash=crash)
        else:
            self.happen([event], crash=crash)

    @precondition(lambda self: self.model.lines)
    @rule(number=numbers, lines=st.lists(line_ids, min_size=1, max_size=3), crash=crashes)
    def fail(self, number: int, lines: list[str], *, crash: bool) -> None:
        job = self.held_job(number)
        events = [self.event(generation_failed(job, line_id=line), (job.job_id, line, 0)) for line in lines]
        self.happen(events, crash=crash)

    @rule(number=numbers, amounts=st.dictionaries(line_ids, amounts), crash=crashes)
    def finish(self, number: int, amounts: dict[str, int], *, crash: bool) -> None:
        job = self.jobs[number]
        ends = [(job, line, amount if (job, line) in self.model.lines else 0) for line, amount in amounts.items()]
        self.happen([self.event(job_finished(self.held_job(number)), *ends, closes=True)], crash=crash)
        self.jobs.insert(0, new_id("job"))

    @precondition(lambda self: self.past)
    @rule(chosen=st.data(), known=st.booleans(), crash=crashes)
    def tell_again(self, chosen: st.DataObject, *, known: bool, crash: bool) -> None:
        """What was told before comes again in any order: as the same events, or as new ones that say the same."""
        events = chosen.draw(st.lists(st.sampled_from(self.past), min_size=1, max_size=4))
        if known:
            assert self.deliver(events, crash=crash) == {}
        else:
            said = [(msgspec.structs.replace(event, meta=None), *self.said(event)) for event in events]
            self.happen([self.event(event, *ends, closes=closes) for event, closes, ends in said], crash=crash)

    @precondition(lambda self: self.model.lines)
    @rule(number=numbers, line=st.none() | line_ids, crash=crashes)
    def give_back(self, number: int, line: str | None, *, crash: bool) -> None:
        answer = self.commit(lambda session: self.give_back_in(session, self.jobs[number], line), crash=crash)

        assert answer == self.model.give_back(self.jobs[number], line)

    @rule(
        amount=st.integers(1, 12),
        days=st.none() | st.integers(1, 3),
        priority=st.sampled_from([10, 20, 40]),
        times=st.integers(1, 2),
        crash=crashes,
    )
    def grant(self, *, amount: int, days: int | None, priority: int, times: int, crash: bool) -> None:
        ends = self.model.now.replace(hour=0, minute=0) + days * DAY if days else None
        values = {"unit": CREDITS, "amount": amount, "kind": "purchased", "reason": "r", "actor": "a"}
        given = {**values, "id": new_id("grt"), "org_id": self.org, "priority": priority, "expires_at": ends}

        answers = [self.commit(lambda session: ledger.give(session, Grant(**given)), crash=crash) for _ in range(times)]

        self.model.purses[given["id"]] = Purse(CREDITS, amount, self.model.now, ends or NEVER, priority)
        assert [answer and answer[0] for answer in answers] == [self.model.available(CREDITS), None][:times]

    @rule(unit=units, amount=st.integers(-8, 8).filter(bool), times=st.integers(1, 2), crash=crashes)
    def adjust(self, unit: str, amount: int, times: int, *, crash: bool) -> None:
        made = {"id": new_id("adj"), "org_id": self.org, "unit": unit, "amount": amount, "reason": "r", "actor": "a"}
        move = ledger.add if amount > 0 else partial(ledger.withdraw, now=self.model.now)
        if amount > 0:
            self.model.purses[made["id"]] = Purse(unit, amount, self.model.now)
        elif not self.model.withdraw(unit, -amount):
            with pytest.raises(Conflict):
                self.commit(lambda session: move(session, Adjustment(**made)), crash=crash)
            return

        answers = [self.commit(lambda session: move(session, Adjustment(**made)), crash=crash) for _ in range(times)]

        assert [answer and answer[0] for answer in answers] == [self.model.available(unit), None][:times]

    @rule(plan=st.sampled_from(list(PLANS)), crash=crashes)
    def change_plan(self, plan: str, *, crash: bool) -> None:
        answer = self.commit(
            lambda session: ledger.change_plan(session, org_id=self.org, plan=plan, actor="a", now=self.model.now),
            crash=crash,
        )

        if answer.previous_plan != plan:
            self.model.change_plan(PLANS[plan])
        assert answer.monthly_generations == PLANS[plan]

    @rule(days=st.sampled_from([1, 2, 31]), swept=st.booleans(), crash=crashes)
    def wait(self, days: int, *, swept: bool, crash: bool) -> None:
        self.model.now += days * DAY
        if swept:
            expired = self.commit(lambda session: ledger.expire_grants(session, now=self.model.now), crash=crash)

            ours = {each.grant_id: each.amount for each in expired if each.org_id == self.org}
            assert ours == self.model.expire()
            seals.seal_entries(self.db)

    @rule(
        asked=st.dictionaries(line_ids, skus, min_size=1),
        ends=st.dictionaries(line_ids, amounts, min_size=1),
        days=st.tuples(*[st.sampled_from([0, 1, 2, 31])] * 2),
        swept=st.booleans(),
        refunded=st.booleans(),
        crash=crashes,
    )
    def live(
        self,
        asked: dict[str, str],
        ends: dict[str, int],
        days: tuple[int, int],
        *,
        swept: bool,
        refunded: bool,
        crash: bool,
    ) -> None:
        """A job from its hold to its end, and perhaps to the refund of what it was charged."""
        job = self.jobs[0]
        self.hold_both(0, asked, partial=True, crash=crash)
        self.wait(days[0], swept=swept, crash=crash)
        self.finish(self.jobs.index(job), ends, crash=crash)
        self.the_ledger_is_sound_and_agrees_with_the_model()
        if refunded:
            self.wait(days[1], swept=swept, crash=crash)
            self.give_back(self.jobs.index(job), None, crash=crash)

    @invariant()
    def the_ledger_is_sound_and_agrees_with_the_model(self) -> None:
        if not hasattr(self, "past"):
            return
        with self.db.transaction() as session:
            wallets = session.execute(_WALLETS, {"org_id": self.org}).all()
            grants = session.execute(_GRANTS, {"org_id": self.org}).all()
            quota = queries.balance(session, org_id=self.org, now=self.model.now)["quota"]
            broken = audit.run(session, grace=timedelta(minutes=10))["violations"]
        assert [tuple(row) for row in wallets] == [
            (unit, self.model.available(unit), self.model.held(unit)) for unit in (CREDITS, PLAN)
        ]
        assert {row.id: row.remaining for row in grants} == {
            name: each.left for name, each in self.model.purses.items()
        }
        assert (quota["limit"], quota["used"]) == (self.model.limit, self.model.used)
        assert [violation for violation in broken if violation not in self.broken_before] == []
        self.model.now += timedelta(minutes=1)  # no two steps happen at the same time

    def commit(self, act: Callable[[Session], T], *, crash: bool, org_id: str | None = None) -> T:
        """Do it in a transaction; after a crash that is done once more."""
        if crash:
            with suppress(Crash), self.db.transaction(org_id=org_id, livemode=True) as session:
                act(session)
                raise Crash
        with self.db.transaction(org_id=org_id, livemode=True) as session:
            return act(session)

    def give_back_in(self, session: Session, job: str, line: str | None) -> dict[str, int] | str:
        try:
            returned = ledger.return_lines(session, job_id=job, line_id=line, reason="r", actor="a", now=self.model.now)
        except Problem as refusal:
            return refusal.code
        usage.add(session, [usage.of_return(each) for each in returned if each.version is not None])
        return {each.line_id: each.amount for each in returned}

    def held_job(self, number: int) -> HeldJob:
        return HeldJob(job_id=self.jobs[number], org_id=self.org, line_ids=list(LINES))

    def event(self, event: Event, *ends: End, closes: bool = False) -> Event:
        """Give an event its envelope, and remember what it says."""
        event = sent(event)
        assert event.meta
        self.ends[event.meta.id] = closes, list(ends)
        return event

    def said(self, event: Event) -> tuple[bool, list[End]]:
        assert event.meta
        return self.ends[event.meta.id]

    def happen(self, events: list[Event], *, crash: bool) -> None:
        """Deliver new events in one batch, and let the same happen to the model."""
        self.past += events
        settled = self.deliver(events, crash=crash)
        expected = {}
        for event in events:
            closes, ends = self.said(event)
            self.model.closed |= {event.job_id} if closes else set()  # type: ignore[attr-defined]  # all of them have it
            for job, line, amount in ends:
                if (end := self.model.settle(job, line, amount)) is not None:
                    expected[job, line] = end
        assert settled == expected

    def deliver(self, events: list[Event], *, crash: bool) -> dict[tuple[str, str], tuple[int, int]]:
        """Deliver a batch as the subscription would: return of each line that ended what was captured and refunded."""
        settled: dict[tuple[str, str], tuple[int, int]] = {}

        def handle(session: Session, fresh: Sequence[Any]) -> list[Event]:
            ledger.close_jobs(session, {event.job_id: self.org for event in fresh if self.said(event)[0]})
            outcomes = [
                Outcome(job_id=job, line_id=line, org_id=self.org, amount=amount)
                for event in fresh
                for job, line, amount in self.said(event)[1]
            ]
            ended = ledger.settle(session, outcomes, now=self.model.now)
            usage.add(session, [usage.of_charge(each, workflow="staging") for each in ended])
            settled.update({(each.job_id, each.line_id): (each.captured, each.refunded) for each in ended})
            return []

        def handle_and_crash(session: Session, fresh: Sequence[Any]) -> list[Event]:
            handle(session, fresh)
            settled.clear()
            raise Crash

        if crash:
            with suppress(Crash):
                self.db.once(Batch(events, consumer="model"), handle_and_crash)
        self.db.once(Batch(events, consumer="model"), handle)
        return settled


_WALLETS = sa.text(
    "SELECT unit, w.available, w.held_total - h.captured_total FROM accounts w JOIN accounts h USING (org_id, unit)"
    " WHERE org_id = :org_id AND w.kind = 'wallet' AND h.kind = 'held' ORDER BY unit"
)
_GRANTS = sa.text("SELECT id, remaining FROM grants WHERE org_id = :org_id")


def _told(answer: Reserved | Problem) -> tuple[list[str], Refusal | None]:
    """Return an answer of reserve in the words of the model."""
    refusal = answer.shortfall if isinstance(answer, Reserved) else answer
    lines = [line.line_id for line in answer.lines] if isinstance(answer, Reserved) else []
    if refusal is None:
        return lines, None
    return lines, (refusal.code, {name: each for name, each in refusal.extra.items() if name != "resets_at"})


def test_the_ledger_does_what_the_model_says(credits_db: Database) -> None:
    with credits_db.engine.begin() as owner:
        plans = [{"name": name, "limit": limit} for name, limit in PLANS.items()]
        owner.execute(
            sa.text("INSERT INTO plans (name, monthly_generations, price_usd_cents) VALUES (:name, :limit, 0)"), plans
        )
    machine = type("LedgerOnDatabase", (Ledger,), {"db": credits_db})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
