"""Staging sessions on real tables: what each step does, what it costs, and what every other one is told."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import (
    adopting,
    cancelling,
    planning,
    recording,
    retrying,
    staging_histories,
    staging_sessions,
    sweeper,
)
from services.generation.adopting import Result
from services.generation.engine import Engine
from services.generation.models import Image, Operation
from services.generation.operations import Answered
from shared.database import Database
from shared.events import StagingSessionChanged
from shared.ids import new_id
from shared.problems import (
    BadRequest,
    Conflict,
    InsufficientCredits,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    Problem,
    SourceGone,
    StepNotAllowed,
    Unavailable,
)
from tests.fakes import HoldingCredits
from tests.service.generation.staging_rooms import STYLED, Room, amounts, job_row
from tests.service.generation.steps import a_stored_image, adopt, begun, claim, job_of, published, submitted

Rooms = Callable[..., Room]


@pytest.fixture
def a_room(generation_db: Database, engine: Engine, credits_service: HoldingCredits) -> Rooms:
    def make(**given: Any) -> Room:
        return Room(generation_db, engine, credits_service, **given)

    return make


@pytest.fixture(params=[True, False], ids=["live", "test"])
def room(request: pytest.FixtureRequest, a_room: Rooms) -> Room:
    return a_room(livemode=request.param)


def changes(db: Database) -> list[StagingSessionChanged]:
    return [event for event in published(db) if isinstance(event, StagingSessionChanged)]


def refused(step: Callable[[], object]) -> Problem | None:
    try:
        step()
    except Problem as problem:
        return problem
    return None


def test_a_new_session_is_a_draft_that_says_what_comes_next(room: Room) -> None:
    shown = room.made

    assert (shown["id"], shown["status"], shown["version"]) == (room.id, "draft", 1)
    assert (shown["empty_rooms"], shown["stagings"], shown["selected_image_id"]) == ([], [], None)
    assert shown["next_actions"] == [
        {
            "action": "choose_room_state",
            "method": "PATCH",
            "path": f"/v1/staging-sessions/{room.id}",
            "body": {"room_state": "already_empty"},
            "free": False,
        },
        {
            "action": "generate_empty_room",
            "method": "POST",
            "path": f"/v1/staging-sessions/{room.id}/empty-rooms",
            "body": {"retry_number": 0},
            "free": False,
        },
    ]


def test_a_session_is_begun_once_however_often_it_is_asked_for(room: Room) -> None:
    assert room.create() == room.made
    assert [event.change for event in changes(room.db)] == ["created"]


def test_an_id_that_another_organization_has_is_taken(room: Room, a_room: Rooms) -> None:
    other = a_room()
    other.id = room.id

    with pytest.raises(Conflict):
        other.create()


def test_the_first_empty_room_is_paid_two_retries_are_free_and_the_third_is_paid(a_room: Rooms) -> None:
    room = a_room()

    paid = []
    for number in range(5):
        job = room.empty(number)
        room.succeed()
        paid.append(amounts(room.db, job["id"]))

    price = ("staging.empty_room", 10, 10)
    free = (None, None, 0)
    assert paid == [[price], [free], [free], [price], [price]]
    assert len(room.credits.calls) == 3
    assert [job_of(room.db, attempt["job_id"])["charged"] for attempt in room.now["empty_rooms"]] == [10, 0, 0, 10, 10]
    assert [attempt["retry_number"] for attempt in room.now["empty_rooms"]] == [0, 1, 2, 3, 4]


def test_every_version_has_a_seed_of_its_own(room: Room) -> None:
    room.with_empty_rooms(4)

    assert len({attempt["seed"] for attempt in room.now["empty_rooms"]}) == 4


def test_an_empty_room_is_made_of_the_photo_by_a_prompt_whose_version_is_kept(room: Room) -> None:
    job = room.empty(0)

    with room.db.transaction() as session:
        operation = session.scalars(sa.select(Operation).where(Operation.job_id == job["id"])).one()
    assert (operation.name, operation.prompt_version) == ("image.empty_room", "empty-room-1")
    assert operation.inputs["sources"] == [room.asset["key"]]


@pytest.mark.parametrize("wrong", [-1, 0, 2, 3])
def test_any_other_number_than_the_next_is_refused_with_the_next(room: Room, wrong: int) -> None:
    room.with_empty_rooms(1)

    with pytest.raises(StepNotAllowed) as problem:
        room.empty(wrong)

    assert problem.value.extra["next_retry_number"] == 1
    assert len(room.now["empty_rooms"]) == 1


def test_a_third_free_retry_is_not_to_be_had_by_sending_the_second_again(a_room: Rooms) -> None:
    room = a_room()
    room.with_empty_rooms(3)

    problem = refused(lambda: room.empty(2))

    assert isinstance(problem, StepNotAllowed)
    assert len(room.credits.calls) == 1


@pytest.mark.parametrize("made", [0, 1])
def test_an_attempt_that_fails_does_not_count_and_its_credits_come_back(a_room: Rooms, made: int) -> None:
    room = a_room()
    room.with_empty_rooms(made)

    failed = room.empty(made)
    room.fail()

    assert (room.now["next_retry_number"], room.now["free_retries_left"]) == (made, 2)
    assert room.now["status"] == ("selecting" if made else "draft")
    assert job_of(room.db, failed["id"])["charged"] == 0
    assert job_of(room.db, failed["id"])["refunded"] == (0 if made else 10)
    assert (room.now["empty_rooms"][-1]["retry_number"], room.now["empty_rooms"][-1]["status"]) == (made, "failed")
    assert room.empty(made)["status"] == "queued"


def test_what_cannot_be_paid_for_leaves_the_session_as_it_was(a_room: Rooms) -> None:
    room = a_room()
    room.credits.refusal = InsufficientCredits("Not enough.", required=10, available=0, unit="credits")

    with pytest.raises(InsufficientCredits):
        room.empty(0)

    room.credits.refusal = None
    assert (room.now["status"], room.now["empty_rooms"]) == ("draft", [])
    assert room.change(room_state="already_empty")["room_state"] == "already_empty"


def test_a_free_retry_needs_no_credits(a_room: Rooms) -> None:
    room = a_room()
    room.with_empty_rooms(1)
    room.credits.refusal = InsufficientCredits("Not enough.", required=10, available=0, unit="credits")

    job = room.empty(1)
    room.succeed()

    assert job_of(room.db, job["id"])["status"] == "succeeded"


def test_a_dry_run_says_the_price_and_takes_no_step(a_room: Rooms) -> None:
    room = a_room()

    first = room.empty(0, dry_run=True)
    room.with_empty_rooms(1)
    free = room.empty(1, dry_run=True)
    too_early = refused(lambda: room.empty(3, dry_run=True))

    assert (first["amount"], free["amount"]) == (10, 0)
    assert isinstance(too_early, StepNotAllowed)
    assert len(room.now["empty_rooms"]) == 1


def test_of_many_who_ask_for_the_same_retry_at_once_one_gets_it(room: Room) -> None:
    room.with_empty_rooms(1)
    ready = threading.Barrier(6)

    def ask(_number: int) -> Problem | None:
        ready.wait(timeout=5)
        return refused(lambda: room.empty(1))

    with ThreadPoolExecutor(6) as pool:
        problems = list(pool.map(ask, range(6)))

    assert problems.count(None) == 1
    assert {type(problem) for problem in problems if problem} == {StepNotAllowed}
    assert len(room.now["empty_rooms"]) == 2


def test_while_one_is_generated_no_other_is_and_nothing_is_locked(room: Room) -> None:
    (first,) = room.with_empty_rooms(1)
    room.select(first)
    room.empty(1)

    for step in (lambda: room.empty(1), lambda: room.empty(2), room.lock, room.stage):
        problem = refused(step)
        assert isinstance(problem, StepNotAllowed)
        assert problem.extra["session_status"] == "generating"
        assert problem.extra["allowed"] == ["select_empty_room"]
    assert room.select(first)["selected_image_id"] == first


def test_the_same_request_sent_again_is_the_same_step(room: Room) -> None:
    job_id = new_id("job")

    jobs = [room.empty(0, job_id=job_id) for _ in range(3)]

    assert {job["id"] for job in jobs} == {job_id}
    assert len(room.now["empty_rooms"]) == 1


def test_any_version_may_be_selected_and_another_in_its_place(room: Room) -> None:
    images = room.with_empty_rooms(3)

    for image_id in [*images, images[0]]:
        assert room.select(image_id)["selected_image_id"] == image_id
    assert room.now["status"] == "selecting"


def test_selecting_the_same_again_changes_nothing(room: Room) -> None:
    (image_id,) = room.with_empty_rooms(1)

    first, second = room.select(image_id), room.select(image_id)

    assert first == second


def test_what_is_no_empty_room_of_the_session_cannot_be_selected(a_room: Rooms) -> None:
    room = a_room()
    other = a_room(org_id=room.owner["org_id"])
    (mine,) = room.with_empty_rooms(1)
    (foreign,) = other.with_empty_rooms(1)
    staged = a_room(org_id=room.owner["org_id"], room_state="already_empty")
    staged.stage()
    staged.succeed()
    variant = staged.now["stagings"][0]["images"][0]["id"]

    for image_id in (foreign, variant, new_id("img"), "no id"):
        with pytest.raises(NotFound):
            room.select(image_id)
    draft = a_room(org_id=room.owner["org_id"])
    for elsewhere, allowed in ((staged, ["stage"]), (draft, ["choose_room_state", "generate_empty_room"])):
        with pytest.raises(StepNotAllowed) as problem:
            elsewhere.select(mine)
        assert problem.value.extra["allowed"] == allowed
    with pytest.raises(NotFound):
        a_room(room_state="already_empty").select(mine)


def test_a_deleted_version_cannot_be_selected_nor_locked(room: Room) -> None:
    (image_id,) = room.with_empty_rooms(1)
    room.select(image_id)
    with room.db.transaction() as session:
        session.execute(sa.update(Image).where(Image.id == image_id).values(deleted_at=sa.func.now()))

    with pytest.raises(NotFound):
        room.select(image_id)
    with pytest.raises(NotFound):
        room.lock()


def test_without_a_selection_nothing_is_locked(room: Room) -> None:
    room.with_empty_rooms(1)

    with pytest.raises(StepNotAllowed) as problem:
        room.lock()

    assert problem.value.extra["allowed"] == ["generate_empty_room", "select_empty_room"]


def test_after_the_lock_the_empty_room_is_settled(room: Room) -> None:
    first, second = room.with_empty_rooms(2)
    room.select(first)

    locked = room.lock()

    assert (locked["status"], room.allowed) == ("locked", ["stage"])
    assert room.lock() == locked
    for step in (lambda: room.empty(2), lambda: room.select(second), lambda: room.change(room_state="already_empty")):
        problem = refused(step)
        assert isinstance(problem, StepNotAllowed)
        assert problem.extra["allowed"] == ["stage"]


def test_staging_takes_the_locked_empty_room_and_its_images_say_so(room: Room) -> None:
    empty = room.locked()

    job = room.stage()
    room.succeed()

    with room.db.transaction() as session:
        source = session.get_one(Image, empty).key
        operations = list(session.scalars(sa.select(Operation).where(Operation.job_id == job["id"])))
        images = list(session.scalars(sa.select(Image).where(Image.job_id == job["id"])))
    assert [operation.inputs["sources"] for operation in operations] == [[source]] * 2
    assert [image.parent_id for image in images] == [empty, empty]
    assert len({operation.seed for operation in operations}) == 2


def test_a_room_that_was_empty_already_is_staged_as_it_is(a_room: Rooms) -> None:
    room = a_room(room_state="already_empty")

    job = room.stage()
    room.succeed()

    with room.db.transaction() as session:
        operations = list(session.scalars(sa.select(Operation).where(Operation.job_id == job["id"])))
    assert [operation.inputs["sources"] for operation in operations] == [[room.asset["key"]]] * 2
    assert room.now["status"] == "completed"
    assert isinstance(refused(lambda: room.empty(0)), StepNotAllowed)
    assert isinstance(refused(room.lock), StepNotAllowed)


def test_a_quote_for_the_sessions_upload_is_good_for_its_staging(room: Room) -> None:
    room.locked()
    inputs = {**STYLED, "upload_id": room.asset["id"]}
    quoted = planning.quote(room.engine, workflow_name="staging", inputs=inputs, assets={room.asset["id"]: room.asset})

    job = room.stage()

    assert job_row(room.db, job["id"]).fingerprint == quoted["fingerprint"]


def test_variants_are_numbered_without_gaps_whatever_fails_between(room: Room) -> None:
    room.locked()

    room.stage()
    room.succeed()
    room.stage()
    room.fail()
    room.stage(inputs={**STYLED, "variants": 3})
    room.succeed()

    numbers = [(attempt["status"], attempt["number"]) for attempt in room.now["stagings"]]
    assert sorted(numbers[:2]) == [("succeeded", 1), ("succeeded", 2)]
    assert numbers[2:4] == [("failed", None), ("failed", None)]
    assert sorted(number for _, number in numbers[4:]) == [3, 4, 5]
    assert room.now["counts"] == {"empty_rooms": 1, "stagings": 5}


def test_variants_of_jobs_that_end_at_the_same_time_have_different_numbers(room: Room) -> None:
    room.locked()
    for _ in range(4):
        room.stage()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: room.succeed(), range(4)))

    assert sorted(attempt["number"] for attempt in room.now["stagings"]) == list(range(1, 9))
    assert room.now["status"] == "completed"


def test_results_that_are_adopted_together_are_counted_like_any_other(a_room: Rooms) -> None:
    room, other = a_room(), a_room()
    other.locked()
    room.empty(0)
    other.stage()
    plain = submitted(room.db, room.engine, variants=1)

    items = begun(room.db, claim(room.db))
    with room.db.transaction() as session:
        answer = Answered(model="scripted-1", cost_microusd=5)
        results = [Result(item=item, answer=answer, images=[a_stored_image(item)]) for item in items]
        recorded = adopting.adopt(session, room.engine, results)
        room.db.publish(session, [event for each in recorded for event in each.events])

    assert [each.adopted for each in recorded] == [True] * 4
    assert (room.now["status"], room.now["next_retry_number"]) == ("selecting", 1)
    assert (other.now["status"], sorted(one["number"] for one in other.now["stagings"])) == ("completed", [1, 2])
    assert job_of(room.db, plain)["status"] == "succeeded"
    assert {image["parent_id"] for one in other.now["stagings"] for image in one["images"]} == {
        other.now["selected_image_id"]
    }


def test_a_session_is_completed_when_the_last_of_its_stagings_has_ended(room: Room) -> None:
    room.locked()
    first = room.stage()
    second = room.stage()

    cancelling.cancel(room.db, **room.owner, job_id=first["id"])
    between = room.now["status"]
    room.succeed()

    assert (between, room.now["status"]) == ("staging", "completed")
    assert {attempt["job_id"] for attempt in room.now["stagings"]} == {first["id"], second["id"]}


@pytest.mark.parametrize("end", ["fail", "cancel", "expire"])
def test_when_all_of_a_staging_fails_it_can_be_asked_for_again(room: Room, end: str) -> None:
    room.locked()
    job = room.stage()

    if end == "fail":
        room.fail()
    elif end == "cancel":
        cancelling.cancel(room.db, **room.owner, job_id=job["id"])
    else:
        with room.db.transaction() as session:
            session.execute(sa.text("UPDATE jobs SET deadline_at = now() - interval '1 s'"))
        sweeper.end_overdue_jobs(room.db)

    assert (room.now["status"], room.allowed) == ("locked", ["stage"])
    assert job_of(room.db, job["id"])["charged"] == 0


def test_a_rejected_job_that_credits_never_answered_gives_the_step_back(a_room: Rooms) -> None:
    room = a_room()
    job_id = new_id("job")
    room.credits.refusal = Unavailable()
    lost = refused(lambda: room.empty(0, job_id=job_id))
    waiting = room.now["status"]
    with room.db.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET created_at = now() - interval '61 s', reserve_after = now()"))
    sweeper.reserve_again(room.db, room.credits)
    room.credits.refusal = None

    assert (type(lost), waiting, job_row(room.db, job_id).status) == (Unavailable, "generating", "rejected")
    assert room.allowed == ["choose_room_state", "generate_empty_room"]
    assert room.empty(0)["status"] == "queued"


def test_the_draft_is_kept_and_the_last_staging_is_what_comes_back(room: Room) -> None:
    room.change(style="rustic", room_type="kitchen", name="Oak Lane 2")
    room.locked()

    before = room.now
    room.stage()

    assert (before["style"], before["room_type"], before["name"]) == ("rustic", "kitchen", "Oak Lane 2")
    proposed = room.now["next_actions"][-1]["body"]
    assert proposed == {"style": "modern", "room_type": "bedroom", "variants": 2}


def test_the_room_state_is_settled_by_the_first_generation_even_if_that_fails(room: Room) -> None:
    assert room.change(room_state="already_empty")["room_state"] == "already_empty"
    room.change(room_state="generate_empty")
    room.empty(0)
    room.fail()

    problem = refused(lambda: room.change(room_state="already_empty"))

    assert isinstance(problem, StepNotAllowed)
    assert problem.extra["allowed"] == ["generate_empty_room"]
    assert room.change(room_state="generate_empty")["status"] == "draft"


def test_a_style_nobody_has_is_refused(room: Room) -> None:
    for style in ("gothic", new_id("sty")):
        with pytest.raises(BadRequest):
            room.change(style=style)


def test_what_has_changed_since_it_was_seen_is_not_changed_unseen(room: Room) -> None:
    (image_id,) = room.with_empty_rooms(1)
    version = str(room.now["version"])
    room.change(name="Seen", only_versions=[version])

    for step in (
        lambda: room.change(name="Unseen", only_versions=[version]),
        lambda: room.select(image_id, only_versions=[version]),
        lambda: room.lock(only_versions=[version]),
        lambda: room.delete(only_versions=[version]),
    ):
        with pytest.raises(PreconditionFailed):
            step()
    assert (room.now["name"], room.now["selected_image_id"]) == ("Seen", None)


def test_of_two_changes_of_the_same_version_one_is_made(room: Room) -> None:
    ready = threading.Barrier(2)

    def rename(name: str) -> Problem | None:
        ready.wait(timeout=5)
        return refused(lambda: room.change(name=name, only_versions=["1"]))

    with ThreadPoolExecutor(2) as pool:
        problems = list(pool.map(rename, ("one", "two")))

    assert sorted(type(problem).__name__ for problem in problems) == ["NoneType", "PreconditionFailed"]
    assert room.now["version"] == 2


def test_a_deleted_session_is_gone_its_work_is_cancelled_and_its_images_stay(room: Room) -> None:
    empty = room.locked()
    job = room.stage()

    room.delete()

    for gone in (lambda: room.now, room.delete, room.stage, lambda: room.change(name="x")):
        with pytest.raises(NotFound):
            gone()
    ended = job_of(room.db, job["id"])
    assert (ended["status"], ended["charged"], ended["reserved"]) == ("cancelled", 0, 0)
    assert changes(room.db)[-1].change == "deleted"
    with room.db.transaction() as session:
        assert session.get_one(Image, empty).deleted_at is None


def test_what_a_dying_process_left_at_work_is_cancelled_by_the_next_sweep(room: Room, a_room: Rooms) -> None:
    room.locked()
    jobs = [room.stage()["id"], room.stage()["id"]]
    other = a_room(room_state="already_empty").stage()["id"]
    with room.db.transaction() as session:
        session.execute(sa.text("UPDATE staging_sessions SET deleted_at = now() WHERE id = :id"), {"id": room.id})

    swept = [sweeper.cancel_work_of_deleted_sessions(room.db) for _ in range(2)]

    assert swept == [2, 0]
    assert [job_of(room.db, job_id)["status"] for job_id in jobs] == ["cancelled"] * 2
    assert job_of(room.db, other)["status"] == "queued"


def test_of_a_session_with_very_much_at_work_the_sweep_cancels_what_is_left(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_sessions, "CANCELLED_AT_ONCE", 1)
    room.locked()
    jobs = [room.stage()["id"] for _ in range(3)]

    room.delete()
    first = [job_of(room.db, job_id)["status"] for job_id in jobs]
    swept = sweeper.cancel_work_of_deleted_sessions(room.db)

    assert (first, swept) == (["cancelled", "queued", "queued"], 2)
    assert {job_of(room.db, job_id)["status"] for job_id in jobs} == {"cancelled"}


def test_what_is_stored_while_its_session_is_deleted_is_kept_and_not_cancelled_over_and_over(a_room: Rooms) -> None:
    room = a_room()
    job = room.empty(0)
    (item,) = begun(room.db, claim(room.db))
    with room.db.transaction() as session:
        recording.storing(session, [item])

    room.delete()
    swept = sweeper.cancel_work_of_deleted_sessions(room.db)
    between = job_of(room.db, job["id"])["status"]

    assert (swept, between) == (0, "cancelling")
    assert adopt(room.db, room.engine, item)
    assert (job_of(room.db, job["id"])["status"], job_of(room.db, job["id"])["charged"]) == ("succeeded", 10)


def test_a_result_that_comes_for_a_deleted_session_is_a_jobs_like_any_other(room: Room) -> None:
    room.empty(0)
    with room.db.transaction() as session:
        session.execute(sa.text("UPDATE staging_sessions SET deleted_at = now() WHERE id = :id"), {"id": room.id})

    room.succeed()

    with room.db.transaction() as session:
        assert session.execute(sa.text("SELECT status FROM jobs")).scalars().all() == ["succeeded"]
    assert changes(room.db)[-1].change == "job_accepted"


def test_a_failed_attempt_made_again_by_its_job_keeps_its_turn_and_its_price(a_room: Rooms) -> None:
    room = a_room()
    room.with_empty_rooms(1)
    failed = room.empty(1)
    room.fail()

    again = {**room.owner, "job_id": failed["id"], "user_id": None}
    job = retrying.retry(room.db, room.credits, room.engine, **again, new_job_id=new_id("job"))["job"]
    room.succeed()

    assert amounts(room.db, job["id"]) == [(None, None, 0)]
    assert room.now["next_retry_number"] == 2
    late = refused(lambda: retrying.retry(room.db, room.credits, room.engine, **again, new_job_id=new_id("job")))
    assert isinstance(late, StepNotAllowed)


def test_a_dry_run_of_a_retry_is_refused_as_the_retry_would_be(a_room: Rooms) -> None:
    room = a_room()
    room.with_empty_rooms(1)
    failed = room.empty(1)
    room.fail()

    def rehearse() -> dict[str, Any]:
        again = {**room.owner, "job_id": failed["id"], "new_job_id": new_id("job"), "user_id": None}
        return retrying.retry(room.db, room.credits, room.engine, **again, dry_run=True)

    price = rehearse()["amount"]
    room.empty(1)

    assert price == 0
    assert isinstance(refused(rehearse), StepNotAllowed)
    room.delete()
    assert type(refused(rehearse)) is Conflict


def test_a_staging_that_was_asked_for_of_the_photo_is_not_made_of_it_once_there_is_an_empty_room(
    a_room: Rooms,
) -> None:
    room = a_room(room_state="already_empty")
    job_id = new_id("job")
    room.credits.refusal = InsufficientCredits("Not enough.", required=20, available=0, unit="credits")
    assert isinstance(refused(lambda: room.stage(job_id=job_id)), InsufficientCredits)
    room.credits.refusal = None
    room.change(room_state="generate_empty")
    room.locked()

    again = {**room.owner, "job_id": job_id, "new_job_id": new_id("job"), "user_id": None}
    problem = refused(lambda: retrying.retry(room.db, room.credits, room.engine, **again))

    assert isinstance(problem, StepNotAllowed)
    assert problem.extra["allowed"] == ["stage"]
    assert room.now["stagings"] == []


DELETED = {
    "told": "INSERT INTO deleted_sources (asset_id, org_id, livemode, reason, deleted_at)"
    " SELECT upload_id, org_id, livemode, 'requested', now() FROM staging_sessions WHERE id = :id",
    "overdue": 'UPDATE staging_sessions SET asset = asset || \'{"delete_after": "2020-01-01T00:00:00Z"}\''
    " WHERE id = :id",
}


def delete_photo(room: Room, how: str = "told") -> None:
    with room.db.transaction() as session:
        session.execute(sa.text(DELETED[how]), {"id": room.id})


@pytest.mark.parametrize("how", DELETED)
def test_of_a_photo_that_is_deleted_nothing_more_is_made_and_nothing_held(a_room: Rooms, how: str) -> None:
    room, empty_already = a_room(), a_room(room_state="already_empty")
    room.with_empty_rooms(1)
    for one in (room, empty_already):
        delete_photo(one, how)
    held = len(room.credits.calls)

    for step in (
        lambda: room.empty(1),
        lambda: room.empty(1, dry_run=True),
        empty_already.stage,
        lambda: empty_already.stage(dry_run=True),
    ):
        assert isinstance(refused(step), SourceGone)
    assert (room.now["status"], empty_already.now["status"]) == ("selecting", "draft")
    assert len(room.credits.calls) == held
    assert (room.now["original"]["available"], empty_already.now["original"]["available"]) == (False, False)
    assert (room.allowed, empty_already.allowed) == (["select_empty_room"], ["choose_room_state"])


@pytest.mark.parametrize("how", DELETED)
def test_the_locked_empty_room_is_staged_though_its_photo_is_deleted(room: Room, how: str) -> None:
    room.locked()
    delete_photo(room, how)

    proposed = room.allowed
    failed = room.stage()
    room.fail()
    again = {**room.owner, "job_id": failed["id"], "new_job_id": new_id("job"), "user_id": None}
    retrying.retry(room.db, room.credits, room.engine, **again)
    room.succeed()

    assert (proposed, room.now["counts"]["stagings"]) == (["stage"], 2)


def all_at_once(steps: list[Callable[[], object]]) -> list[Problem | None]:
    ready = threading.Barrier(len(steps))

    def take(step: Callable[[], object]) -> Problem | None:
        ready.wait(timeout=5)
        return refused(step)

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(take, steps))


def test_of_a_lock_and_another_attempt_at_once_one_is_done_and_the_rest_fits_it(room: Room) -> None:
    first, second = room.with_empty_rooms(2)
    room.select(first)

    problems = all_at_once(
        [
            room.lock,
            lambda: room.empty(2),
            lambda: room.select(second),
            room.lock,
            lambda: room.empty(2),
            lambda: room.change(name="Oak Lane 2"),
            room.stage,
            room.stage,
        ]
    )

    locked, emptied = None in {problems[0], problems[3]}, None in {problems[1], problems[4]}
    assert locked != emptied
    assert room.now["name"] == "Oak Lane 2"
    assert room.now["status"] in ({"locked", "staging"} if locked else {"generating"})
    room.succeed()
    selected = room.now["selected_image_id"]
    assert {image["parent_id"] for one in room.now["stagings"] for image in one["images"]} <= {selected}
    assert {type(problem) for problem in problems if problem} <= {StepNotAllowed}


def test_whatever_comes_while_a_session_is_deleted_is_refused_or_cancelled(room: Room) -> None:
    room.locked()

    problems = all_at_once(
        [room.stage, room.stage, room.delete, room.stage, lambda: room.change(name="x"), room.delete]
    )
    sweeper.cancel_work_of_deleted_sessions(room.db)

    assert {type(problem) for problem in problems if problem} <= {NotFound, Conflict}
    with room.db.transaction() as session:
        ends = session.execute(sa.text("SELECT status FROM jobs WHERE workflow = 'staging'")).scalars().all()
        held = session.execute(sa.text("SELECT count(*) FROM generations WHERE status = 'queued'")).scalar_one()
    assert (set(ends) <= {"cancelled"}, held) == (True, 0)


def test_no_session_is_seen_by_another_organization_or_mode(a_room: Rooms) -> None:
    room = a_room()

    for owner in ({"org_id": new_id("org"), "livemode": True}, {**room.owner, "livemode": False}):
        with room.db.transaction(**owner) as session:
            assert staging_histories.page(session, **owner)["data"] == []
            for table in ("staging_sessions", "staging_results", "saved_styles"):
                assert session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
        other = Room.__new__(Room)
        other.__dict__.update(room.__dict__, owner=owner)
        for step in (
            lambda room=other: room.now,
            lambda room=other: room.change(name="mine"),
            lambda room=other: room.empty(0),
            lambda room=other: room.stage(),
            lambda room=other: room.lock(),
            lambda room=other: room.delete(),
            lambda room=other: room.select(new_id("img")),
        ):
            with pytest.raises(NotFound):
                step()
    assert room.now == room.made


def test_the_list_has_the_newest_first_with_their_newest_attempts(a_room: Rooms) -> None:
    first = a_room()
    others = [a_room(org_id=first.owner["org_id"]) for _ in range(2)]
    others[0].with_empty_rooms(1)
    first.locked()
    for _ in range(5):
        first.stage()
        first.succeed()

    with first.db.transaction(**first.owner) as session:
        page = staging_histories.page(session, **first.owner, limit=2)
        rest = staging_histories.page(session, **first.owner, limit=2, after=page["next_cursor"])
        drafts = staging_histories.page(session, **first.owner, status="draft")

    assert [one["id"] for one in page["data"]] == [others[1].id, others[0].id]
    assert page["data"][1] == others[0].now
    assert [one["id"] for one in rest["data"]] == [first.id]
    assert sorted(attempt["number"] for attempt in rest["data"][0]["stagings"]) == list(range(3, 11))
    assert len(first.now["stagings"]) == 10
    assert [one["id"] for one in drafts["data"]] == [others[1].id]


def test_a_session_has_so_many_generations_and_no_more(a_room: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.generation.staging_steps.MOST_GENERATIONS", 3)
    room = a_room(room_state="already_empty")
    room.stage()

    with pytest.raises(LimitExceeded):
        room.stage()


def test_the_events_tell_the_whole_way(a_room: Rooms) -> None:
    room = a_room()
    room.locked()
    room.stage()
    room.succeed()

    told = changes(room.db)

    assert [(event.change, event.status) for event in told] == [
        ("created", "draft"),
        ("job_accepted", "generating"),
        ("job_ended", "selecting"),
        ("selected", "selecting"),
        ("locked", "locked"),
        ("job_accepted", "staging"),
        ("job_ended", "completed"),
    ]
    assert [event.version for event in told] == list(range(1, 8))
    assert (told[-1].empty_rooms, told[-1].variants, told[-1].session_name) == (1, 2, "Elm Street 4")
    finished = [event for event in published(room.db) if type(event).__name__ == "JobFinished"]
    assert {(event.session_id, event.session_name) for event in finished} == {(room.id, "Elm Street 4")}


def test_whatever_its_jobs_tell_belongs_to_the_session(a_room: Rooms) -> None:
    room = a_room()
    room.locked()
    room.stage()
    room.fail()
    room.stage()
    room.succeed()

    told = [event for event in published(room.db) if not isinstance(event, StagingSessionChanged)]

    steps = {"JobAccepted", "GenerationStarted", "GenerationCompleted", "GenerationFailed", "JobFinished"}
    assert {type(event).__name__ for event in told} >= steps
    assert {getattr(event, "session_id", None) for event in told} == {room.id}
