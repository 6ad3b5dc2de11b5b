"""What a worker writes about its operations, by group commit: whatever is to be written while a commit is under way
goes into the next one, together. Nobody waits for company.

Each operation has its own outcome: one whose claim is lost does not touch the others, and a batch that the database
refuses is taken again one by one. It knows nothing of providers and of the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from services.generation import adopting, calls, claims, endings, recording
from services.generation.adopting import Result
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.operations import GiveUp, Repeat, Spent, Submitted
from shared.database import Database
from shared.events import Event
from shared.gathering import Gathering


# What is known once a result is being stored: the claim is lost, or it holds, and its model was or was not in trouble.
Noted = Literal["lost", "in_trouble", "well"]


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
    used: Spent


class Writes:
    """The writes of one process. All raise what the database raises; what it undoes is written by nobody."""

    def __init__(self, db: Database, engine: Engine) -> None:
        self._db = db
        self._engine = engine
        self._sending: Gathering[None, tuple[Claimed, str], int | None] = Gathering(self._send)
        self._storing: Gathering[None, Claimed, Noted] = Gathering(self._note_storing)
        self._taking: Gathering[None, Taking, bool] = Gathering(self._note_taken)
        self._recording: Gathering[None, Result | Ending, bool] = Gathering(self._record)

    def send(self, item: Claimed, *, digest: str) -> int | None:
        """Begin an operation and write down that it is sent now; return the try, None where it must not be sent."""
        return self._sending(None, (item, digest))

    def storing(self, item: Claimed) -> Noted:
        """Note that its answer is here, and its place at the provider free."""
        return self._storing(None, item)

    def taken(self, taking: Taking) -> bool:
        """Note under which id its provider has it; return False where it is at work there for nobody."""
        return self._taking(None, taking)

    def record(self, outcome: Result | Ending) -> bool:
        """Write down what an operation came to; return whether a result was adopted."""
        return self._recording(None, outcome)

    def _send(self, _key: None, several: Sequence[tuple[Claimed, str]]) -> list[int | None]:
        with self._db.transaction() as session:
            live, events = claims.begin(session, [item for item, _ in several])
            going = {item.claim for item in live}
            tries = calls.send(session, [(item, digest) for item, digest in several if item.claim in going])
            self._db.publish(session, events)
        return [tries.get(item.claim) for item, _ in several]

    def _note_storing(self, _key: None, several: Sequence[Claimed]) -> list[Noted]:
        with self._db.transaction() as session:
            held = recording.storing(session, several)
        noted: dict[bool | None, Noted] = {None: "lost", True: "in_trouble", False: "well"}
        return [noted[held.get(item.claim)] for item in several]

    def _note_taken(self, _key: None, several: Sequence[Taking]) -> list[bool]:
        found: dict[tuple[str, int], bool] = {}
        with self._db.transaction() as session:
            for each in sorted(several, key=lambda taking: taking.item.claim):
                found[each.item.claim] = calls.submitted(
                    session,
                    each.item,
                    external_id=each.taken.external_id,
                    phase=each.taken.phase,
                    poll_after_seconds=each.poll_after_seconds,
                )
        return [found[each.item.claim] for each in several]

    def _record(self, _key: None, outcomes: Sequence[Result | Ending]) -> list[bool]:
        with self._db.transaction() as session:
            results = [each for each in outcomes if isinstance(each, Result)]
            endings_ = [each for each in outcomes if isinstance(each, Ending)]
            if endings_:
                endings.lock(session, (outcome.item.job_id for outcome in outcomes))
            ended = [event for each in endings_ for event in _ended(session, each)]
            session.flush()
            recorded = adopting.adopt(session, self._engine, results)
            self._db.publish(session, [*ended, *(event for each in recorded for event in each.events)])
        adopted = {result.item.claim for result, each in zip(results, recorded, strict=True) if each.adopted}
        return [isinstance(each, Result) and each.item.claim in adopted for each in outcomes]


def _ended(session: Session, ending: Ending) -> list[Event]:
    if isinstance(ending.decision, Repeat):
        return recording.repeat(session, ending.item, decision=ending.decision, used=ending.used)
    return recording.failure(session, ending.item, decision=ending.decision, used=ending.used)
