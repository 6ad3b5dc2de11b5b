"""Group commit of what a worker writes about its operations: what comes during a commit goes into the next, together.

Nobody waits for company. Each operation has its own outcome: one whose claim is lost does not touch the others, and a
batch that the database refuses is taken again one by one. Jobs are locked first, then operations, each in the order of
their ids. It knows nothing of providers and of the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from sqlalchemy.orm import Session

from services.generation import adopting, asking, calls, claims, endings, recording
from services.generation.adopting import Result
from services.generation.asking import Due
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.known_analyses import ANALYSES_CHANNEL
from services.generation.operations import GiveUp, Repeat, Running, Spent, Submitted
from shared.database import Database
from shared.events import Event
from shared.gathering import Gathering

# What is known once a result is being stored: the claim is lost, or it holds, and its model was or was not in trouble.
Noted = Literal["lost", "in_trouble", "well"]


@dataclass(frozen=True, kw_only=True)
class Sending:
    """An operation that is about to be sent, and the SHA-256 of what is asked.

    Those that are ``one_of_many`` of their organizations are written down apart from the others, who have few.
    """

    item: Claimed
    digest: str
    one_of_many: bool = False


@dataclass(frozen=True, kw_only=True)
class Taking:
    """An operation that its provider has taken, and after how many seconds it is to be asked for."""

    item: Claimed
    taken: Submitted
    poll_after_seconds: float


@dataclass(frozen=True, kw_only=True)
class Ending:
    """An operation without a result: what follows, and what it used up all the same."""

    item: Claimed
    decision: Repeat | GiveUp
    used: Spent = field(default_factory=Spent)


@dataclass(frozen=True, kw_only=True)
class AskingLater:
    """An operation that its provider is still at, and after how many seconds it is to be asked again."""

    due: Due
    progress: Running
    after_seconds: float


class Writes:
    """The writes of one process. All raise what the database raises; then nothing of the item was written, or all."""

    def __init__(self, db: Database, engine: Engine) -> None:
        self._sending: Gathering[bool, Sending, int | None] = Gathering(lambda _, several: send(db, several))
        self._storing: Gathering[Database, Claimed, Noted] = Gathering(note_storing)
        self._taking: Gathering[Database, Taking, bool] = Gathering(note_taken)
        self._asking: Gathering[Database, AskingLater, None] = Gathering(ask_later)
        self._recording: Gathering[Database, Result | Ending, bool] = Gathering(partial(record, engine))
        self._db = db

    def send(self, sending: Sending) -> int | None:
        """Begin an operation and write down that it is sent now; return the try, None where it must not be sent."""
        return self._sending(sending.one_of_many, sending)

    def storing(self, item: Claimed) -> Noted:
        """Note that its answer is here, and its place at the provider free."""
        return self._storing(self._db, item)

    def taken(self, taking: Taking) -> bool:
        """Note under which id its provider has it; return False where it is at work there for nobody."""
        return self._taking(self._db, taking)

    def ask_later(self, asking: AskingLater) -> None:
        """Note how far its provider is, and when it is asked again."""
        self._asking(self._db, asking)

    def record(self, outcome: Result | Ending) -> bool:
        """Write down what an operation came to; return whether a result was adopted."""
        return self._recording(self._db, outcome)


def send(db: Database, several: Sequence[Sending]) -> list[int | None]:
    """Begin operations and write down that they are sent now; return of each its try, or None."""
    with db.transaction() as session:
        live, events = claims.begin(session, [each.item for each in several])
        going = {item.claim for item in live}
        tries = calls.send(session, [(each.item, each.digest) for each in several if each.item.claim in going])
        db.publish(session, events)
    return [tries.get(each.item.claim) for each in several]


def note_storing(db: Database, several: Sequence[Claimed]) -> list[Noted]:
    """Note of operations that their answers are here."""
    with db.transaction() as session:
        held = recording.storing(session, several)
    noted: dict[bool | None, Noted] = {None: "lost", True: "in_trouble", False: "well"}
    return [noted[held.get(item.claim)] for item in several]


def note_taken(db: Database, several: Sequence[Taking]) -> list[bool]:
    """Note of operations under which ids providers have them; return of each whether they are at work for somebody."""
    found: dict[tuple[str, int], bool] = {}
    with db.transaction() as session:
        for each in sorted(several, key=lambda taking: taking.item.claim):
            found[each.item.claim] = calls.submitted(
                session,
                each.item,
                external_id=each.taken.external_id,
                phase=each.taken.phase,
                poll_after_seconds=each.poll_after_seconds,
            )
    return [found[each.item.claim] for each in several]


def ask_later(db: Database, several: Sequence[AskingLater]) -> list[None]:
    """Note of operations when they are to be asked for again; a job of which something has moved says so."""
    with db.transaction() as session:
        moved = [each.due.item.job_id for each in several if each.progress.phase != each.due.phase]
        endings.note_progress(session, moved)
        asking.ask_later(session, [(each.due, each.progress, each.after_seconds) for each in several])
    return [None] * len(several)


def record(engine: Engine, db: Database, outcomes: Sequence[Result | Ending]) -> list[bool]:
    """Write down what operations came to; return of each whether it is a result that was adopted."""
    results = [each for each in outcomes if isinstance(each, Result)]
    others = [each for each in outcomes if isinstance(each, Ending)]
    with db.transaction() as session:
        if others:
            endings.lock(session, (each.item.job_id for each in outcomes))
            claims.lock(session, [each.item.id for each in outcomes])
        events = [event for each in others for event in _ended(session, each)]
        session.flush()
        recorded = adopting.adopt(session, engine, results)
        db.publish(session, [*events, *(event for each in recorded for event in each.events)])
        if not all(each.item.makes_image for each in outcomes):
            # Those that wait for an analysis: it is there, or somebody else has to make it.
            db.notify(session, ANALYSES_CHANNEL)
    adopted = {result.item.claim for result, each in zip(results, recorded, strict=True) if each.adopted}
    return [isinstance(each, Result) and each.item.claim in adopted for each in outcomes]


def _ended(session: Session, ending: Ending) -> list[Event]:
    if isinstance(ending.decision, Repeat):
        return recording.repeat(session, ending.item, decision=ending.decision, used=ending.used)
    return recording.failure(session, ending.item, decision=ending.decision, used=ending.used)
