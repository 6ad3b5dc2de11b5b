from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import favorites, pauses, planning, queries, removing, sweeper
from services.generation.engine import Engine
from services.generation.models import Image, Job
from shared.database import Database
from shared.events import ImageDeleted, ImageFavorited
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, InsufficientCredits, NotFound, SourceGone
from shared.storage import ObjectStore, StorageUnavailable
from tests.service.generation.headshot_steps import Sitter
from tests.service.generation.steps import job_of, published


@pytest.fixture
def sitter(generation_db: Database, engine: Engine) -> Sitter:
    return Sitter(generation_db, engine)


class UnreachableStore:
    """A store that deletes nothing."""

    def delete(self, _key: str) -> None:
        raise StorageUnavailable("no route to host")


def stored(store: ObjectStore, sitter: Sitter, headshot_id: str) -> list[str]:
    """Put bytes where a headshot's image has them; return their keys."""
    (image,) = sitter.one(headshot_id)["images"]
    for key in (image["key"], image["thumbnail_key"]):
        store.put(key=key, chunks=b"bytes", content_type="image/jpeg")
    return [image["key"], image["thumbnail_key"]]


def test_a_batch_is_one_job_with_one_hold_and_a_headshot_of_each_style(sitter: Sitter) -> None:
    job = sitter.ask("corporate", "creative", "model")

    assert job["counts"]["total"] == 3
    assert {each["style"] for each in sitter.history()} == {"corporate", "creative", "model"}
    assert len(sitter.credits.calls) == 1


def test_a_headshot_says_what_it_took(sitter: Sitter) -> None:
    (shown,) = sitter.made("corporate")

    assert shown["status"] == "succeeded"
    assert shown["progress"] == 100
    assert shown["metadata"]["model"] == "scripted-1"
    assert shown["metadata"]["cost"] == shown["charged"]
    assert shown["metadata"]["attempts"] == 1
    assert shown["metadata"]["processing_time_ms"] >= 0
    assert shown["metadata"]["quality"] == "high"
    assert shown["user_id"] == sitter.user_id


def test_headshots_are_made_of_faces_only(sitter: Sitter) -> None:
    sitter.asset["purpose"] = "room"

    with pytest.raises(BadRequest) as refused:
        sitter.ask("corporate")

    assert refused.value.extra["errors"][0]["pointer"] == "/inputs/upload_id"


def test_one_style_or_several_but_not_both(sitter: Sitter, engine: Engine) -> None:
    inputs = {"upload_id": sitter.upload_id, "style": "model", "styles": ["corporate"]}

    with pytest.raises(BadRequest):
        planning.plan(engine, workflow_name="headshot", inputs=inputs, assets={sitter.upload_id: sitter.asset})


def test_history_is_the_organizations_own_newest_first_and_in_pages(
    sitter: Sitter, generation_db: Database, engine: Engine
) -> None:
    Sitter(generation_db, engine).made("outdoor")
    for style in ("corporate", "creative", "model"):
        sitter.ask(style)
        sitter.succeed()

    first = sitter.page(limit=2)
    rest = sitter.page(limit=2, after=first["next_cursor"])

    assert [each["style"] for each in first["data"] + rest["data"]] == ["model", "creative", "corporate"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_failed_headshots_stay_in_the_history_and_refused_ones_never_come_there(sitter: Sitter) -> None:
    sitter.ask("corporate")
    sitter.fail()
    sitter.credits.refusal = InsufficientCredits("There are 0 credits.")
    with pytest.raises(InsufficientCredits):
        sitter.ask("model")

    (shown,) = sitter.history()

    assert shown["failure"]["reason"] == "invalid_input"
    assert shown["charged"] == 0


def test_a_favorite_is_marked_once_and_told_once(sitter: Sitter, generation_db: Database) -> None:
    shown, _ = sitter.made("corporate", "creative")

    sitter.mark(shown["id"])
    again = sitter.mark(shown["id"])

    assert again["favorite"]
    assert [each["id"] for each in sitter.history(favorite=True)] == [shown["id"]]
    assert len(sitter.history(favorite=False)) == 1
    (told,) = [each for each in published(generation_db) if isinstance(each, ImageFavorited)]
    assert (told.generation_id, told.favorite, told.workflow) == (shown["id"], True, "headshot")


def test_taking_the_mark_off_twice_is_told_once(sitter: Sitter, generation_db: Database) -> None:
    (shown,) = sitter.made("corporate")
    sitter.mark(shown["id"])

    sitter.mark(shown["id"], favorite=False)
    sitter.mark(shown["id"], favorite=False)

    assert sitter.history(favorite=True) == []
    told = [each.favorite for each in published(generation_db) if isinstance(each, ImageFavorited)]
    assert told == [True, False]


def test_what_has_no_image_is_nobodys_favorite(sitter: Sitter) -> None:
    sitter.ask("corporate")

    (shown,) = sitter.history()

    with pytest.raises(Conflict):
        sitter.mark(shown["id"])


def test_the_favorite_of_another_organization_is_not_there(
    sitter: Sitter, generation_db: Database, engine: Engine
) -> None:
    (theirs,) = Sitter(generation_db, engine).made("corporate")

    with pytest.raises(NotFound):
        sitter.mark(theirs["id"])
    with pytest.raises(NotFound):
        favorites.mark_image(
            generation_db, **sitter.owner, image_id=theirs["images"][0]["id"], user_id=None, favorite=True
        )


def test_a_deleted_headshot_is_gone_with_its_bytes_and_counted_all_the_same(
    sitter: Sitter, generation_db: Database, store: ObjectStore
) -> None:
    shown, kept = sitter.made("corporate", "creative")
    keys = stored(store, sitter, shown["id"])
    before = sitter.stats()

    sitter.delete(store, shown["id"])

    assert [each["id"] for each in sitter.history()] == [kept["id"]]
    assert [store.stat(key) for key in keys] == [None, None]
    with pytest.raises(NotFound):
        sitter.one(shown["id"])
    with pytest.raises(NotFound):
        sitter.delete(store, shown["id"])
    assert sitter.stats()["generated"] == before["generated"] == 2
    (told,) = [each for each in published(generation_db) if isinstance(each, ImageDeleted)]
    assert (told.generation_id, told.user_id) == (shown["id"], sitter.user_id)


def test_bytes_that_could_not_be_removed_at_once_are_removed_later(
    sitter: Sitter, generation_db: Database, store: ObjectStore
) -> None:
    (shown,) = sitter.made("corporate")
    keys = stored(store, sitter, shown["id"])
    sitter.delete(UnreachableStore(), shown["id"])  # type: ignore[arg-type]  it only deletes
    assert sitter.history() == []

    removed = removing.purge_due(generation_db, store)

    assert removed == 1
    assert [store.stat(key) for key in keys] == [None, None]
    assert removing.purge_due(generation_db, store) == 0


def test_a_headshot_that_is_being_made_is_not_deleted(sitter: Sitter, store: ObjectStore) -> None:
    sitter.ask("corporate")
    (shown,) = sitter.history()

    with pytest.raises(Conflict, match="cancel its job first"):
        sitter.delete(store, shown["id"])


def test_stats_count_what_was_made_by_style_and_by_person(sitter: Sitter) -> None:
    sitter.made("corporate", "creative")
    sitter.ask("corporate")
    sitter.fail()
    (first, *_) = sitter.history(style="creative")
    sitter.mark(first["id"])

    stats = sitter.stats()

    assert (stats["generated"], stats["failed"], stats["open"], stats["favorites"]) == (2, 1, 0, 1)
    assert {each["style"]: (each["generated"], each["failed"]) for each in stats["by_style"]} == {
        "corporate": (1, 1),
        "creative": (1, 0),
    }
    assert stats["mine"]["generated"] == 2
    assert stats["credits_spent"] == sum(each["charged"] for each in sitter.history())
    assert stats["milestone"] == {"reached": 1, "next": 10}
    assert stats["text"] == "You've generated 2 headshots"


def test_a_job_ends_before_the_original_does(generation_db: Database, engine: Engine) -> None:
    sitter = Sitter(generation_db, engine, kept_for=timedelta(minutes=4))

    job = sitter.ask("corporate")

    assert job["deadline_at"][:19] == sitter.asset["delete_after"][:19]


def test_what_waits_for_credits_does_not_wait_beyond_the_original(generation_db: Database, engine: Engine) -> None:
    sitter = Sitter(generation_db, engine, kept_for=timedelta(seconds=-1))
    job_id = sitter.ask("corporate")["id"]
    with generation_db.transaction() as session:
        session.execute(
            sa.text("UPDATE jobs SET status = 'paused', paused_at = now(), waiting_reason = 'insufficient_credits'")
        )
        row = session.get_one(Job, job_id)
        assert row.sources_until is not None
        assert pauses.deadline_now(row, now=row.sources_until) == row.sources_until

    sweeper.end_long_pauses(generation_db)

    shown = job_of(generation_db, job_id)
    assert (shown["status"], shown["charged"]) == ("failed", 0)


def test_a_failure_is_made_again_of_the_same_upload_while_it_lives(sitter: Sitter) -> None:
    first = sitter.ask("corporate", "model")
    sitter.fail()

    again = sitter.retry(first["id"])
    sitter.succeed()

    assert (again["retry_of"], again["retry_count"]) == (first["id"], 1)
    made = sitter.history(status="succeeded")
    assert {each["style"] for each in made} == {"corporate", "model"}
    assert {(each["retry_of"], each["retry_count"]) for each in made} == {(first["id"], 1)}


@pytest.mark.parametrize("reason", ["retention", "requested"])
def test_after_the_original_nothing_is_made_of_it_and_nothing_held(sitter: Sitter, reason: str) -> None:
    first = sitter.ask("corporate")
    sitter.fail()
    event = sitter.original_deleted(reason=reason)
    sitter.tell(event, event)
    held = len(sitter.credits.calls)

    with pytest.raises(SourceGone) as refused:
        sitter.retry(first["id"])

    assert refused.value.extra["reason"] == reason
    assert len(sitter.credits.calls) == held
    (shown,) = sitter.history()
    assert shown["original"]["available"] is False
    assert shown["original"]["reason"] == reason
    assert shown["original"]["deleted_at"] is not None


def test_an_original_counts_as_gone_when_its_time_is_over_whether_or_not_that_was_told(
    generation_db: Database, engine: Engine
) -> None:
    sitter = Sitter(generation_db, engine, kept_for=timedelta(minutes=30))
    first = sitter.ask("corporate")
    sitter.fail()
    with generation_db.transaction() as session:
        over = sa.text(
            "UPDATE jobs SET assets = jsonb_set(assets, ARRAY[:id, 'delete_after'], '\"2020-01-01T00:00:00Z\"')"
        )
        session.execute(over, {"id": sitter.upload_id})

    with pytest.raises(SourceGone):
        sitter.retry(first["id"])


def images(sitter: Sitter, **wanted: Any) -> list[str]:
    with sitter.db.transaction(**sitter.owner) as session:
        page = queries.images(session, **sitter.owner, **wanted)
    return [each["id"] for each in page["data"]]


def test_images_are_found_by_workflow_style_favorite_and_time(sitter: Sitter) -> None:
    corporate, creative = (each["images"][0]["id"] for each in sitter.made("corporate", "creative"))
    favorites.mark_image(sitter.db, **sitter.owner, image_id=creative, user_id=None, favorite=True)
    with sitter.db.transaction() as session:
        session.execute(sa.update(Image).where(Image.id == corporate).values(created_at=sa.text("'2020-01-01Z'")))

    assert set(images(sitter, workflow="headshot")) == {corporate, creative}
    assert images(sitter, workflow="staging") == []
    assert images(sitter, style="corporate") == [corporate]
    assert images(sitter, favorite=True) == [creative]
    assert images(sitter, favorite=False) == [corporate]
    assert images(sitter, created_before="2020-01-02T00:00:00Z") == [corporate]
    assert images(sitter, created_since="2020-01-02T00:00:00Z") == [creative]
    assert images(sitter, session_id=new_id("ses")) == []
    with pytest.raises(BadRequest):
        images(sitter, created_since="yesterday")


def test_images_come_in_pages_that_miss_and_repeat_nothing(sitter: Sitter) -> None:
    made = {each["images"][0]["id"] for each in sitter.made("corporate", "creative", "model")}
    seen, after = [], None
    while True:
        with sitter.db.transaction(**sitter.owner) as session:
            page = queries.images(session, **sitter.owner, workflow="headshot", limit=1, after=after)
        seen += [each["id"] for each in page["data"]]
        after = page["next_cursor"]
        if not page["has_more"]:
            break

    assert sorted(seen, reverse=True) == seen
    assert set(seen) == made


def test_test_keys_have_headshots_of_their_own(generation_db: Database, engine: Engine) -> None:
    live = Sitter(generation_db, engine)
    test = Sitter(generation_db, engine, org_id=str(live.owner["org_id"]), livemode=False)
    (made,) = test.made("corporate")

    assert live.history() == []
    assert made["livemode"] is False
    assert test.credits.calls == []
