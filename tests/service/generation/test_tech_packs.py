"""Technical packs on a real database: what results leave behind, in whatever order, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import coalescing, handlers, recording, retrying, tech_packs
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Operation, TechPackAnalysis, TechPackPart
from services.generation.operations import Answered, GiveUp
from services.generation.submissions import Submission
from shared.database import Database
from shared.events import GenerationCompleted, GenerationFailed
from shared.ids import new_id
from shared.problems import BadRequest, NotFound, StepNotAllowed
from tests.fakes import HoldingCredits, KnowingProvider, found_on
from tests.service.generation.steps import a_stored_image, begun, claim, published

VIEWS = ("front", "back")


class Pack:
    """One product's pack: jobs as the gateway asks for them, and answers when the test gives them."""

    def __init__(self, db: Database, *, org_id: str | None = None, livemode: bool = True) -> None:
        self.db = db
        self.provider = KnowingProvider()
        self.engine = Engine(providers={"local": self.provider}, routes={})
        self.credits = HoldingCredits()
        self.owner = {"org_id": org_id or new_id("org"), "livemode": livemode}
        self.product_id = new_id("prd")
        self.category: str | None = "cup"
        self.views = {view: self.a_view(view, number) for number, view in enumerate(VIEWS)}

    def a_view(self, view: str, number: int, **about: Any) -> dict[str, Any]:
        return {
            "id": new_id("rev"),
            "product_id": self.product_id,
            "view_type": view,
            "version": 1,
            "is_current": True,
            "generation_id": None,
            "key": f"assets/{self.owner['org_id']}/{view}.jpg",
            "sha256": f"{number}" * 64,
            **about,
        }

    @property
    def assets(self) -> dict[str, Any]:
        """What the catalog knows of the product and its views."""
        product = {
            "id": self.product_id,
            "name": "A cup",
            "category": self.category,
            "metadata": {},
            "views": self.views,
        }
        return {self.product_id: product, **{view["id"]: view for view in self.views.values()}}

    @property
    def now(self) -> dict[str, Any]:
        with self.db.transaction(**self.owner) as session:
            return tech_packs.pack(session, **self.owner, product_id=self.product_id, views=[*self.views.values()])

    def ask(self, workflow: str, **inputs: Any) -> dict[str, Any]:
        named = [self.product_id] if "revision_id" not in inputs else [inputs["revision_id"]]
        asked = Submission(
            job_id=new_id("job"),
            **self.owner,
            user_id=None,
            workflow=f"tech_pack_{workflow}",
            inputs=inputs if "revision_id" in inputs else {"product_id": self.product_id, **inputs},
            assets={one: self.assets[one] for one in [*named, *inputs.get("revision_ids", ())]},
        )
        job: dict[str, Any] = handlers.submit(self.db, self.credits, self.engine, asked)["job"]
        return job

    def work(self, *, only: Sequence[str] = ()) -> None:
        """Answer everything that is due, and what follows on it, of some jobs or of all."""
        while claimed := claim(self.db):
            for item in begun(self.db, [item for item in claimed if not only or item.job_id in only]):
                self.answer(item)
            coalescing.settle_ready(self.db, self.engine)

    def answer(self, item: Claimed, *, dies: bool = False) -> None:
        answer = found_on(item.name, item.inputs["parameters"], seed=item.seed)
        images = [replace(a_stored_image(item), sha256=new_id("sha"))] if item.makes_image else []
        with self.db.transaction() as session:
            recorded = recording.success(
                session, self.engine, item, answer=Answered(model="knowing-1", result=answer), images=images
            )
            assert recorded.adopted
            self.db.publish(session, recorded.events)
            _ = 1 / (not dies)

    def do(self, workflow: str, **inputs: Any) -> dict[str, Any]:
        job = self.ask(workflow, **inputs)
        self.work()
        return job


@pytest.fixture
def pack(generation_db: Database) -> Pack:
    return Pack(generation_db)


def test_each_view_has_its_analysis_and_a_confidence(pack: Pack) -> None:
    pack.do("base_views")

    views = pack.now["base_views"]

    assert [view["revision"]["view_type"] for view in views] == ["front", "back"]
    assert {view["confidence"] for view in views} == {0.8}
    assert {view["version"] for view in views} == {1}
    (event,) = [each for each in published(pack.db) if isinstance(each, GenerationCompleted)]
    assert (event.product_id, event.renewed_view) == (pack.product_id, None)


def test_an_analysis_found_again_keeps_what_was_edited_and_another_one_replaces_it(pack: Pack) -> None:
    pack.do("base_views")
    pack.do("edit", revision_id=pack.views["front"]["id"], field_path="summary", prompt="Set it to mine")

    pack.do("base_views")
    same = pack.now["base_views"][0]
    pack.views["front"]["sha256"] = "f" * 64
    pack.do("base_views", category="mug")
    other = pack.now["base_views"][0]

    assert (same["analysis"]["summary"], same["version"]) == ("mine", 2)
    assert (other["analysis"]["summary"], other["version"]) == ("A mug.", 3)


def test_of_two_analyses_that_which_was_asked_for_later_counts_whatever_comes_last(pack: Pack) -> None:
    first = pack.ask("base_views", category="first")
    second = pack.ask("base_views", category="second")

    pack.work(only=[second["id"]])
    with pack.db.transaction() as session:
        session.execute(
            sa.text("UPDATE operations SET status = 'queued', due_at = now() WHERE job_id = :id"), {"id": first["id"]}
        )
    pack.work()

    assert pack.now["base_views"][0]["analysis"]["summary"] == "A second."


def test_two_edits_at_once_each_change_their_own_field(pack: Pack) -> None:
    pack.do("base_views")
    revision = pack.views["front"]["id"]
    before = pack.now["base_views"][0]["analysis"]

    for path, words in (("summary", "Set it to short"), ("materials.0.finish", "Set it to matt")):
        pack.ask("edit", revision_id=revision, field_path=path, prompt=words)
    pack.work()

    shown = pack.now
    after = shown["base_views"][0]["analysis"]
    assert (after["summary"], after["materials"][0]["finish"]) == ("short", "matt")
    assert {**after, "summary": before["summary"], "materials": before["materials"]} == before
    assert sorted(edit["version"] for edit in shown["edits"]) == [2, 3]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("summary", "summary"),
        ("materials.0.finish", "materials[0].finish"),
        ("materials.0.finish", "materials.body.finish"),
    ],
)
def test_of_two_edits_of_one_field_that_which_was_asked_for_later_counts_and_the_other_is_paid_back(
    pack: Pack, first: str, second: str
) -> None:
    pack.do("base_views")
    revision = pack.views["front"]["id"]
    slow = pack.ask("edit", revision_id=revision, field_path=first, prompt="Set it to first")
    fast = pack.ask("edit", revision_id=revision, field_path=second, prompt="Set it to second")
    other = pack.ask("edit", revision_id=revision, field_path="product_type", prompt="Set it to mug")

    several = {item.job_id: item for item in begun(pack.db, claim(pack.db))}
    for job in (fast, other, slow):
        pack.answer(several[job["id"]])

    after = pack.now["base_views"][0]["analysis"]
    said = (after["summary"], after["materials"][0]["finish"])
    assert said == (("second", "glossy") if first == "summary" else ("A cup.", "second"))
    (failed,) = [each for each in published(pack.db) if isinstance(each, GenerationFailed)]
    assert (failed.job_id, failed.reason, failed.line_id) == (slow["id"], "invalid_input", failed.generation_id)
    assert [edit["after"] for edit in pack.now["edits"]] == ["mug", "second"]


def test_an_edit_that_was_asked_for_after_an_analysis_stays_when_that_comes_last(pack: Pack) -> None:
    pack.do("base_views")
    revision = pack.views["front"]["id"]
    pack.do("edit", revision_id=revision, field_path="product_type", prompt="Set it to gone")
    analysis = pack.ask("base_views", category="mug")
    edit = pack.ask("edit", revision_id=revision, field_path="materials.0.finish", prompt="Set it to matt")

    several = begun(pack.db, claim(pack.db))
    for item in sorted(several, key=lambda one: one.job_id != edit["id"]):
        pack.answer(item)

    view = pack.now["base_views"][0]
    assert view["generation_id"] == analysis["generations"][0]["id"]
    assert (view["analysis"]["summary"], view["analysis"]["product_type"]) == ("A mug.", "mug")
    assert view["analysis"]["materials"][0]["finish"] == "matt"
    assert view["version"] == 4


def test_an_edit_whose_field_has_gone_meanwhile_fails_and_changes_nothing(pack: Pack) -> None:
    pack.do("base_views")
    pack.ask("edit", revision_id=pack.views["front"]["id"], field_path="materials.1.finish", prompt="Set it to matt")
    with pack.db.transaction() as session:
        row = session.get_one(TechPackAnalysis, pack.views["front"]["id"])
        row.analysis = {**row.analysis, "materials": row.analysis["materials"][:1]}

    pack.work()

    (failed,) = [each for each in published(pack.db) if isinstance(each, GenerationFailed)]
    assert (failed.reason, failed.line_id is not None) == ("invalid_input", True)
    assert pack.now["edits"] == []


def test_a_view_made_again_has_its_analysis_before_the_catalog_has_named_it(pack: Pack) -> None:
    pack.do("base_views")
    front = pack.views["front"]

    job = pack.do("regenerate", revision_id=front["id"])
    generation_id = job["generations"][0]["id"]
    pack.views["front"] = pack.a_view("front", 7, generation_id=generation_id)

    renewed = [each for each in published(pack.db) if isinstance(each, GenerationCompleted)][-1]
    assert renewed.renewed_view is not None
    assert (renewed.renewed_view.view_type, renewed.revision_id) == ("front", front["id"])
    assert pack.now["base_views"][0]["generation_id"] == generation_id
    pack.do("edit", revision_id=pack.views["front"]["id"], field_path="summary", prompt="Set it to new")
    assert pack.now["base_views"][0]["analysis"]["summary"] == "new"


def test_a_new_set_of_close_ups_takes_the_place_of_the_one_before(pack: Pack) -> None:
    pack.do("base_views")

    pack.do("close_ups", count=10)
    first = pack.now["close_ups"]
    pack.do("close_ups", count=6)
    second = pack.now["close_ups"]

    assert [len(first), len(second)] == [10, 6]
    assert not {one["image"]["id"] for one in first} & {one["image"]["id"] for one in second}


def test_a_close_up_made_again_for_an_older_set_stays_with_that_set(pack: Pack) -> None:
    pack.do("base_views")
    pack.do("close_ups", count=6)
    old = pack.now["close_ups"][0]["image"]["id"]
    again = pack.ask("regenerate", image_id=old)
    pack.do("close_ups", count=6)

    shown = pack.now["close_ups"]

    assert again["id"] not in {one["image"]["job_id"] for one in shown}
    with pack.db.transaction() as session:
        parts = session.scalars(sa.select(TechPackPart).where(TechPackPart.place == "1")).all()
    assert len(parts) == 3


def test_a_category_is_kept_and_the_pack_can_do_without(pack: Pack) -> None:
    job = pack.do("category")

    assert pack.now["category"] == {"category": "kitchen", "subcategory": "ware", "confidence": 0.8}
    assert pack.now["status"] == "not_analyzed"
    assert len(job["generations"]) == 1


@pytest.mark.parametrize("step", ["close_ups", "sketches"])
def test_what_needs_an_analysis_is_refused_without_one_and_nothing_is_held(pack: Pack, step: str) -> None:
    with pytest.raises(StepNotAllowed) as refused:
        pack.ask(step)

    assert refused.value.extra["allowed"] == ["add_view", "detect_category", "analyze_base_views"]
    assert [each["action"] for each in pack.now["next_actions"]] == refused.value.extra["allowed"]
    assert not pack.credits.calls


def test_a_result_that_is_written_twice_or_breaks_off_leaves_one_set(pack: Pack) -> None:
    pack.do("base_views")
    pack.ask("sketches")
    measured = begun(pack.db, claim(pack.db))
    for item in measured:
        pack.answer(item)
    *drawn, last = begun(pack.db, claim(pack.db))
    for item in drawn:
        pack.answer(item)

    with pytest.raises(ZeroDivisionError):
        pack.answer(last, dies=True)
    broken_off = pack.now["sketches"]
    pack.answer(last)
    once = pack.now["sketches"]
    with pack.db.transaction() as session:
        answer = Answered(model="knowing-1")
        again = recording.success(session, pack.engine, last, answer=answer, images=[a_stored_image(last)])

    assert broken_off == []
    assert [one["view_type"] for one in once] == ["front", "back", "side"]
    assert (again.adopted, again.events) == (True, [])
    assert pack.now["sketches"] == once


def test_a_field_that_no_analysis_has_is_refused(pack: Pack) -> None:
    pack.do("base_views")

    hostile = (
        "__proto__",
        "constructor.prototype",
        "summary.__class__",
        "materials.__len__",
        "materials.0.__proto__.x",
    )
    deep = ("materials.0." * 16, "[0]" * 60, "attributes." + "9" * 4000 + ".value")
    for path in ("colours", "confidence", "materials.9.name", "summary.0", "..", "a" * 300, *hostile, *deep):
        with pytest.raises(BadRequest):
            pack.ask("edit", revision_id=pack.views["front"]["id"], field_path=path, prompt="Set it to x")


def test_parts_and_analyses_of_others_are_not_there(pack: Pack, generation_db: Database) -> None:
    pack.do("base_views")
    pack.do("sketches")
    drawing = pack.now["sketches"][0]["image"]["id"]
    for owner in ({"livemode": True}, {"org_id": pack.owner["org_id"], "livemode": False}):
        other = Pack(generation_db, **owner)
        other.product_id, other.views = pack.product_id, pack.views

        assert other.now["base_views"][0]["analysis"] is None
        assert other.now["sketches"] == []
        with pytest.raises(NotFound):
            other.ask("regenerate", image_id=drawing)


def test_what_is_no_image_of_a_part_cannot_be_made_again(pack: Pack) -> None:
    pack.do("base_views")

    for thing in (pack.product_id, pack.views["front"]["id"], new_id("img"), "", "\U0001f4a5" * 999):
        with pytest.raises(NotFound):
            pack.ask("regenerate", image_id=thing)


def test_a_revision_of_another_product_is_none_of_this_one(pack: Pack, generation_db: Database) -> None:
    other = Pack(generation_db, org_id=pack.owner["org_id"])
    pack.views["back"] = {**other.views["back"]}

    with pytest.raises(NotFound) as refused:
        pack.ask("base_views", revision_ids=[other.views["back"]["id"]])

    assert refused.value.extra["missing"] == [other.views["back"]["id"]]


def test_an_analysis_that_says_the_same_later_stands_before_another_that_was_asked_for_before_it(pack: Pack) -> None:
    pack.do("base_views", category="first")
    slow = pack.ask("base_views", category="second")
    pack.ask("base_views", category="first")

    pack.work(only=[slow["id"]])

    assert pack.now["base_views"][0]["analysis"]["summary"] == "A first."


def test_a_step_takes_the_category_that_was_detected_last_where_nobody_says_another(pack: Pack) -> None:
    pack.category = None
    pack.do("category")

    pack.do("base_views")
    detected = pack.now["base_views"][0]["analysis"]["summary"]
    pack.do("base_views", category="mug")
    said = pack.now["base_views"][0]["analysis"]["summary"]

    assert (detected, said) == ("A kitchen/ware.", "A mug.")


def test_close_ups_take_the_category_from_the_analysis_where_it_was_never_detected(pack: Pack) -> None:
    pack.category = None
    pack.do("base_views")
    assert pack.now["base_views"][0]["analysis"]["summary"] == "A thing."

    pack.do("close_ups", count=6)

    assert {one["analysis"]["category"] for one in pack.now["close_ups"]} == {"thing/plain"}


def test_close_ups_are_of_all_analysed_views_and_each_knows_its_own(pack: Pack) -> None:
    pack.do("base_views")

    pack.do("close_ups", count=6)
    shown = pack.now["close_ups"]
    again = pack.do("regenerate", image_id=shown[1]["image"]["id"])
    renewed = pack.now["close_ups"]

    assert [one["seen_from"] for one in shown] == ["front", "back"] * 3
    assert [one["revision_id"] for one in shown] == [pack.views[one["seen_from"]]["id"] for one in shown]
    with pack.db.transaction() as session:
        made = sa.select(Operation.inputs).where(Operation.job_id == again["id"], Operation.makes_image)
        (inputs,) = session.scalars(made)
    assert inputs["sources"] == [pack.views["back"]["key"]]
    assert (inputs["parameters"]["shot"], inputs["parameters"]["count"]) == (1, 3)
    assert [one["seen_from"] for one in renewed] == ["front", "back"] * 3


def test_of_ten_regenerations_at_once_the_last_one_counts_and_the_pack_is_read_as_before(pack: Pack) -> None:
    for step in ("category", "base_views", "sketches"):
        pack.do(step)
    before, read_before = pack.now["sketches"], read_of(pack)
    pack.do("category")
    jobs = [pack.ask("regenerate", image_id=before[0]["image"]["id"])["id"] for _ in range(10)]

    several = {item.job_id: item for item in begun(pack.db, claim(pack.db))}
    for one in (*jobs[5:], *jobs[:5]):
        pack.answer(several[one])
    after = pack.now["sketches"]

    assert [one["view_type"] for one in after] == ["front", "back", "side"]
    assert after[0]["image"]["job_id"] == jobs[-1]
    assert after[1:] == before[1:]
    assert read_of(pack) == read_before
    assert len(read_before) == 7


def read_of(pack: Pack) -> list[int]:
    """Return how many rows each statement reads that a pack is put together from."""
    read: list[int] = []

    def note(_connection: Any, cursor: Any, *_: Any) -> None:
        read.append(cursor.rowcount)

    with pack.db.transaction(**pack.owner) as session:
        connection = session.connection()
        sa.event.listen(connection, "after_cursor_execute", note)
        tech_packs.pack(session, **pack.owner, product_id=pack.product_id, views=[*pack.views.values()])
    return read


# Of each step what is asked for, and how many operations it takes; what was measured before is known.
STEPS: dict[str, tuple[Any, int]] = {
    "category": (lambda _: {}, 1),
    "base_views": (lambda _: {"category": "other"}, 2),
    "close_ups": (lambda _: {"count": 6}, 1 + 6 + 6),
    "sketches": (lambda _: {}, 3),
    "edit": (
        lambda pack: {"revision_id": pack.views["front"]["id"], "field_path": "summary", "prompt": "Set it to short"},
        1,
    ),
    "regenerate": (lambda pack: {"revision_id": pack.views["front"]["id"]}, 2),
    "regenerate of a close-up": (lambda pack: {"image_id": pack.now["close_ups"][0]["image"]["id"]}, 2),
    "regenerate of a sketch": (lambda pack: {"image_id": pack.now["sketches"][0]["image"]["id"]}, 1),
}


@pytest.mark.parametrize("at_its_end", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_gives_all_of_it_back_and_leaves_the_pack_as_it_was(
    pack: Pack, step: str, *, at_its_end: bool
) -> None:
    for before in ("base_views", "close_ups", "sketches"):
        pack.do(before)
    was = pack.now
    inputs, operations = STEPS[step]
    job = pack.ask(step.partition(" ")[0], **inputs(pack))

    well = operations - 1 if at_its_end else 0
    while claimed := begun(pack.db, claim(pack.db)):
        for item in claimed:
            if well:
                pack.answer(item)
                well -= 1
            else:
                fail(pack, item)
        coalescing.settle_ready(pack.db, pack.engine)

    (failed,) = [each for each in published(pack.db) if isinstance(each, GenerationFailed)]
    assert (failed.job_id, failed.reason, failed.line_id) == (job["id"], "provider_error", failed.generation_id)
    assert (well, pack.now) == (0, was)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_whose_last_result_is_written_twice_or_breaks_off_counts_once(pack: Pack, step: str) -> None:
    for before in ("base_views", "close_ups", "sketches"):
        pack.do(before)
    was = pack.now
    inputs, operations = STEPS[step]
    job = pack.ask(step.partition(" ")[0], **inputs(pack))
    left: list[Claimed] = []
    for _ in range(operations - 1):
        left = left or begun(pack.db, claim(pack.db))
        pack.answer(left.pop(0))
        coalescing.settle_ready(pack.db, pack.engine)
    (last,) = left or begun(pack.db, claim(pack.db))

    with pytest.raises(ZeroDivisionError):
        pack.answer(last, dies=True)
    broken_off = {**pack.now, "at_work": []}
    pack.answer(last)
    once, events = pack.now, len(published(pack.db))
    with pack.db.transaction() as session:
        again_ = recording.success(session, pack.engine, last, answer=Answered(model="knowing-1"), images=[])

    assert broken_off == was
    assert (once["charged"] - was["charged"], once["at_work"]) == (10, [])
    assert (again_.adopted, again_.events) == (True, [])
    assert (pack.now, len(published(pack.db))) == (once, events)
    assert job["id"] in {each.job_id for each in published(pack.db) if isinstance(each, GenerationCompleted)}


def test_an_edit_that_has_failed_is_made_again_with_other_words_and_of_no_other_view(pack: Pack) -> None:
    pack.do("base_views")
    asked = {"revision_id": pack.views["front"]["id"], "field_path": "summary"}
    failed = pack.ask("edit", **asked, prompt="Set it to nothing")
    for item in begun(pack.db, claim(pack.db)):
        fail(pack, item)

    for other in ({"revision_id": pack.views["back"]["id"]}, {"field_path": "colours"}):
        with pytest.raises(BadRequest):
            again(pack, failed["id"], settings=other)
    made = again(pack, failed["id"], settings={"prompt": "Set it to short"})
    pack.work()

    assert made["retry_of"] == failed["id"]
    assert pack.now["base_views"][0]["analysis"]["summary"] == "short"
    assert [edit["prompt"] for edit in pack.now["edits"]] == ["Set it to short"]


@pytest.mark.parametrize("step", ["close_ups", "sketches", "base_views"])
def test_a_step_that_has_failed_is_made_again_of_what_it_was_made_of(pack: Pack, step: str) -> None:
    pack.do("base_views")
    inputs = {"category": "other"} if step == "base_views" else {}
    failed = pack.ask(step, **inputs)
    first, *_ = begun(pack.db, claim(pack.db))
    fail(pack, first)
    was = pack.views.pop("back")

    again(pack, failed["id"])
    pack.work()

    pack.views["back"] = was
    shown = pack.now[step]
    sides = {one["revision"]["view_type"] if step == "base_views" else one["seen_from"] for one in shown}
    assert sides >= {"front", "back"}


def again(pack: Pack, job_id: str, **changes: Any) -> dict[str, Any]:
    """Ask for a job that has failed again; return the new one."""
    about = {**pack.owner, "job_id": job_id, "new_job_id": new_id("job"), "user_id": None, **changes}
    job: dict[str, Any] = retrying.retry(pack.db, pack.credits, pack.engine, **about)["job"]
    return job


def fail(pack: Pack, item: Claimed) -> None:
    with pack.db.transaction() as session:
        decision = GiveUp(code="provider_error", detail="as the test says")
        pack.db.publish(session, recording.failure(session, item, decision=decision))
