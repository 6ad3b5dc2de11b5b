"""The rules of staging sessions: which step may be taken when, what follows from it, what it costs nothing for.

Pure: no database, no clock. The statuses are those of the contract.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shared.problems import LimitExceeded, StepNotAllowed

EMPTY_ROOM, STAGING = "empty_room", "staging"  # the two workflows whose jobs are steps of a session
ALREADY_EMPTY, GENERATE_EMPTY = "already_empty", "generate_empty"
ROOM_STATES = (ALREADY_EMPTY, GENERATE_EMPTY)

# The first empty room is paid for, then come two free ones; every further one is paid for again.
FREE_RETRIES = (1, 2)
# One GET shows all of a session.
MOST_GENERATIONS = 500

CHOOSE_ROOM_STATE = "choose_room_state"
GENERATE_EMPTY_ROOM = "generate_empty_room"
SELECT = "select_empty_room"
LOCK = "lock_empty_room"
STAGE = "stage"
STEPS = (CHOOSE_ROOM_STATE, GENERATE_EMPTY_ROOM, SELECT, LOCK, STAGE)
STEP_OF_WORKFLOW = {EMPTY_ROOM: GENERATE_EMPTY_ROOM, STAGING: STAGE}

STATUSES = ("draft", "generating", "selecting", "locked", "staging", "completed")
# Which status may follow which.
SESSION_STEPS: Mapping[str, Collection[str]] = {
    "draft": {"generating", "staging"},
    "generating": {"draft", "selecting"},
    "selecting": {"generating", "locked"},
    "locked": {"staging"},
    "staging": {"draft", "locked", "completed"},
    "completed": {"staging"},
}
# Which steps may be taken when, by what the room was said to be; `allowed` says which of them lack something yet.
_ALLOWED: Mapping[str, Mapping[str, Collection[str]]] = {
    GENERATE_EMPTY: {
        "draft": {CHOOSE_ROOM_STATE, GENERATE_EMPTY_ROOM},
        "generating": {SELECT},
        "selecting": {GENERATE_EMPTY_ROOM, SELECT, LOCK},
        "locked": {STAGE},
        "staging": {STAGE},
        "completed": {STAGE},
    },
    ALREADY_EMPTY: {
        "draft": {CHOOSE_ROOM_STATE, STAGE},
        "staging": {STAGE},
        "completed": {STAGE},
    },
}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a session stands. ``empty_rooms`` and ``variants`` count what succeeded, ``generations`` all there were.

    ``begun``: a generation exists, so what the room was said to be is settled.
    """

    room_state: str
    status: str
    empty_rooms: int = 0
    variants: int = 0
    generations: int = 0
    begun: bool = False
    selected: bool = False
    locked: bool = False


def allowed(standing: Standing) -> tuple[str, ...]:
    """Return the steps that may be taken now, in their one order."""
    lacking = {
        CHOOSE_ROOM_STATE: standing.begun,
        SELECT: not standing.empty_rooms,
        LOCK: not standing.selected,
    }
    here = _ALLOWED[standing.room_state].get(standing.status, ())
    return tuple(step for step in STEPS if step in here and not lacking.get(step, False))


def require(step: str, standing: Standing) -> None:
    """Let ``step`` be taken, or not.

    Raises:
        StepNotAllowed: with the status and the steps that are allowed.
    """
    if step not in allowed(standing):
        raise refusal(standing, _why_not(step, standing))


def require_retry_number(retry_number: int | None, standing: Standing) -> None:
    """Make sure that an attempt at the empty room is the one that is next; only those that succeeded count.

    Raises:
        StepNotAllowed: it is another; ``next_retry_number`` says which is next.
    """
    if retry_number != standing.empty_rooms:
        raise refusal(
            standing,
            f"The next retry_number of this session is {standing.empty_rooms}; the last that succeeded counts.",
            next_retry_number=standing.empty_rooms,
        )


def require_room_for(more: int, standing: Standing) -> None:
    """Make sure that a session does not grow without end.

    Raises:
        LimitExceeded: with ``more`` generations it would have more than 500.
    """
    excess = standing.generations + more - MOST_GENERATIONS
    if excess > 0:
        raise LimitExceeded(
            f"A session has {MOST_GENERATIONS} generations at most: begin another one for the same upload.",
            limit=MOST_GENERATIONS,
            excess=excess,
        )


def refusal(standing: Standing, why: str, **more: int) -> StepNotAllowed:
    """Return the 409 that says where a session stands and what is allowed there."""
    steps = list(allowed(standing))
    return StepNotAllowed(
        f"{why} Allowed now: {', '.join(steps) or 'nothing, until what is being made has ended'}.",
        session_status=standing.status,
        allowed=steps,
        **more,
    )


def is_free(retry_number: int | None) -> bool:
    """Tell whether an attempt at the empty room is one of the free retries; None is no attempt at one."""
    return retry_number in FREE_RETRIES


def free_retries_left(empty_rooms: int) -> int:
    """Return how many free retries are left of a session that has so many empty rooms."""
    return sum(number >= empty_rooms for number in FREE_RETRIES)


def status_of(standing: Standing, at_work: Collection[str]) -> str:
    """Return the status that follows from what there is; ``at_work`` are the workflows of its jobs that are open."""
    if STAGING in at_work:
        return "staging"
    if EMPTY_ROOM in at_work:
        return "generating"
    if standing.variants:
        return "completed"
    if standing.locked:
        return "locked"
    return "selecting" if standing.empty_rooms else "draft"


def _why_not(step: str, standing: Standing) -> str:
    if standing.room_state == ALREADY_EMPTY and step in _OF_EMPTY_ROOMS:
        return "The room was said to be empty already, so it is staged as it is."
    return _WHY_NOT.get((step, standing.status)) or _OTHERWISE[step]


_OF_EMPTY_ROOMS = (GENERATE_EMPTY_ROOM, SELECT, LOCK)
_OTHERWISE = {
    CHOOSE_ROOM_STATE: "What the room is can be chosen until the first generation.",
    GENERATE_EMPTY_ROOM: "An empty room cannot be generated here.",
    SELECT: "There is no empty room that could be selected here.",
    LOCK: "Select the empty room to lock first.",
    STAGE: "Select and lock an empty room before it is staged.",
}
_WHY_NOT = {
    (GENERATE_EMPTY_ROOM, "generating"): "An empty room is being generated: wait until it is there.",
    (LOCK, "generating"): "An empty room is being generated: wait until it is there, or cancel its job.",
    (STAGE, "generating"): "An empty room is being generated: it has to be selected and locked before it is staged.",
} | {
    (step, status): "The empty room is locked: it stays as it was selected."
    for step in _OF_EMPTY_ROOMS
    for status in ("locked", "staging", "completed")
}
