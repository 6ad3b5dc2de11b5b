"""Saved styles: kept per organization and mode, and what a job that names one is made with."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import handlers, retrying, saved_styles
from services.generation.engine import Engine
from services.generation.models import Operation
from services.generation.styles import STYLES
from shared.database import Database
from shared.ids import new_id
from shared.problems import BadRequest, Conflict, LimitExceeded, NotFound, PreconditionFailed
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import begun, claim, fail_one

GIVEN = {"user_id": None, "name": "Summer", "base": "coastal", "words": "olive trees", "colours": ["#1d8c3a"]}


class Styles:
    """The styles of one organization in one mode, each call a transaction of its own."""

    def __init__(self, db: Database, *, org_id: str, livemode: bool = True) -> None:
        self.db = db
        self.owner = {"org_id": org_id, "livemode": livemode}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            with self.db.transaction(**self.owner) as session:
                return getattr(saved_styles, name)(session, **self.owner, **arguments)

        return call

    def save(self, **changes: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.create(style_id=new_id("sty"), **{**GIVEN, **changes})
        return made


@pytest.fixture
def styles(generation_db: Database) -> Styles:
    return Styles(generation_db, org_id=new_id("org"))


def operations_of(db: Database, job_id: str) -> list[Operation]:
    with db.transaction() as session:
        return list(session.scalars(sa.select(Operation).where(Operation.job_id == job_id)))


def test_a_style_is_saved_once_however_often_it_is_sent(styles: Styles) -> None:
    style_id = new_id("sty")

    first, again = (styles.create(style_id=style_id, **GIVEN) for _ in range(2))

    assert first == again == styles.one(style_id=style_id)
    assert {name: first[name] for name in ("name", "base", "words", "colours", "version")} == {
        "name": "Summer",
        "base": "coastal",
        "words": "olive trees",
        "colours": ["#1d8c3a"],
        "version": 1,
    }


def test_a_name_is_taken_once_and_free_again_when_its_style_is_deleted(styles: Styles, generation_db: Database) -> None:
    first = styles.save()

    with pytest.raises(Conflict):
        styles.save()
    with pytest.raises(Conflict):
        styles.change(style_id=styles.save(name="Autumn")["id"], given={"name": "Summer"})
    Styles(generation_db, org_id=new_id("org")).save()
    styles.delete(style_id=first["id"])

    assert styles.save()["name"] == "Summer"


def test_a_base_has_to_be_a_style_of_ours(styles: Styles) -> None:
    saved = styles.save()

    for step in (
        lambda: styles.save(name="Other", base="gothic"),
        lambda: styles.change(style_id=saved["id"], given={"base": saved["id"]}),
    ):
        with pytest.raises(BadRequest):
            step()


def test_a_style_is_changed_as_it_was_seen_and_each_change_is_a_version(styles: Styles) -> None:
    saved = styles.save()

    changed = styles.change(style_id=saved["id"], given={"words": "lemons"}, only_versions=["1"])

    assert (changed["words"], changed["version"]) == ("lemons", 2)
    assert styles.change(style_id=saved["id"], given={"words": "lemons"})["version"] == 2
    with pytest.raises(PreconditionFailed):
        styles.change(style_id=saved["id"], given={"words": "x"}, only_versions=["1"])
    with pytest.raises(PreconditionFailed):
        styles.delete(style_id=saved["id"], only_versions=["1"])


def test_styles_are_listed_newest_first_page_by_page(styles: Styles) -> None:
    made = [styles.save(name=str(number))["id"] for number in range(3)]

    page = styles.page(limit=2)
    rest = styles.page(limit=2, after=page["next_cursor"])

    assert [one["id"] for one in page["data"] + rest["data"]] == made[::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)


def test_there_are_so_many_styles_and_no_more(styles: Styles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_styles, "MOST", 2)
    for name in ("one", "two"):
        styles.save(name=name)

    with pytest.raises(LimitExceeded):
        styles.save(name="three")


def test_there_are_no_more_of_them_though_many_are_saved_at_once(
    styles: Styles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_styles, "MOST", 2)
    ready = threading.Barrier(6)

    def save(number: int) -> bool:
        ready.wait(timeout=5)
        try:
            return bool(styles.save(name=str(number)))
        except LimitExceeded:
            return False

    with ThreadPoolExecutor(6) as pool:
        saved = list(pool.map(save, range(6)))

    assert sorted(saved) == [False] * 4 + [True] * 2
    assert len(styles.page()["data"]) == 2


def test_one_style_sent_twice_at_once_is_saved_once(styles: Styles) -> None:
    style_id, ready = new_id("sty"), threading.Barrier(4)

    def save(_number: int) -> Any:
        ready.wait(timeout=5)
        return styles.create(style_id=style_id, **GIVEN)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(save, range(4)))

    assert made == [styles.one(style_id=style_id)] * 4


@pytest.mark.parametrize("other", ["organization", "mode"])
def test_a_style_can_be_named_by_nobody_else_whatever_the_database_lets_be_seen(
    styles: Styles, generation_db: Database, other: str
) -> None:
    saved = styles.save()
    stranger = {"org_id": new_id("org")} if other == "organization" else {"livemode": False}

    with generation_db.transaction(**styles.owner) as session:
        saved_styles.require(session, saved["id"], **styles.owner)
        with pytest.raises(BadRequest):
            saved_styles.require(session, saved["id"], **{**styles.owner, **stranger})


@pytest.mark.parametrize("other", ["organization", "mode"])
def test_nobody_else_sees_a_style_or_makes_anything_with_it(
    styles: Styles, generation_db: Database, engine: Engine, credits_service: HoldingCredits, other: str
) -> None:
    saved = styles.save()
    owner = {**styles.owner, "livemode": False} if other == "mode" else {"org_id": new_id("org"), "livemode": True}
    stranger = Styles(generation_db, **owner)  # type: ignore[arg-type]  # an organization and a mode
    asked = a_submission(**owner)
    asked = a_submission(**owner, inputs={**asked.inputs, "style": saved["id"]}, assets=asked.assets)

    for step in (
        lambda: stranger.one(style_id=saved["id"]),
        lambda: stranger.change(style_id=saved["id"], given={"name": "x"}),
        lambda: stranger.delete(style_id=saved["id"]),
        lambda: handlers.submit(generation_db, credits_service, engine, asked),
    ):
        with pytest.raises(NotFound):
            step()
    assert stranger.page()["data"] == []
    assert credits_service.calls == []


def test_a_job_is_made_with_the_words_of_the_base_and_the_styles_own(
    styles: Styles, generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    saved = styles.save()
    plain = a_submission(**styles.owner)
    asked = a_submission(**styles.owner, inputs={**plain.inputs, "style": saved["id"]}, assets=plain.assets)

    job = handlers.submit(generation_db, credits_service, engine, asked)["job"]

    for operation in operations_of(generation_db, job["id"]):
        assert STYLES["coastal"] in operation.prompt
        assert "olive trees" in operation.prompt
        assert "#1d8c3a" in operation.prompt
        assert operation.inputs["parameters"] == {"style": "coastal", "room_type": "bedroom", "colours": ["#1d8c3a"]}
    assert {generation["style"] for generation in job["generations"]} == {saved["id"]}


def test_a_retry_in_a_saved_style_still_works_on_the_uploads_of_its_job_alone(
    styles: Styles, generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    saved = styles.save()
    asked = a_submission(**styles.owner)
    handlers.submit(generation_db, credits_service, engine, asked)
    for item in begun(generation_db, claim(generation_db)):
        fail_one(generation_db, item)
    again = {**styles.owner, "job_id": asked.job_id, "user_id": None}

    settings = {"style": saved["id"], "upload_id": new_id("ast")}
    with pytest.raises(BadRequest, match="uploads of its job"):
        retrying.retry(generation_db, credits_service, engine, **again, new_job_id=new_id("job"), settings=settings)
    job = retrying.retry(
        generation_db, credits_service, engine, **again, new_job_id=new_id("job"), settings={"style": saved["id"]}
    )["job"]

    assert all("olive trees" in operation.prompt for operation in operations_of(generation_db, job["id"]))


def test_a_retry_is_made_in_the_style_as_it_was(
    styles: Styles, generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> None:
    saved = styles.save()
    plain = a_submission(**styles.owner)
    asked = a_submission(**styles.owner, inputs={**plain.inputs, "style": saved["id"]}, assets=plain.assets)
    handlers.submit(generation_db, credits_service, engine, asked)
    for item in begun(generation_db, claim(generation_db)):
        fail_one(generation_db, item)
    styles.change(style_id=saved["id"], given={"words": "lemons"})
    styles.delete(style_id=saved["id"])

    again = {**styles.owner, "job_id": asked.job_id, "new_job_id": new_id("job"), "user_id": None}
    job = retrying.retry(generation_db, credits_service, engine, **again)["job"]

    assert all("olive trees" in operation.prompt for operation in operations_of(generation_db, job["id"]))
