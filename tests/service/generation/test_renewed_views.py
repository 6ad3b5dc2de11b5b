"""What is told of a generation that makes a view of a product anew, and of those that do not."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from services.generation import workflows, writes
from services.generation.adopting import Result
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import Image, Job
from services.generation.operations import Answered
from services.generation.submissions import Submission
from shared import events
from shared.database import Database
from shared.events import GenerationCompleted, RenewedView
from shared.times import rfc3339
from tests import view_again
from tests.fakes import HoldingCredits
from tests.service.generation.conftest import a_submission
from tests.service.generation.steps import a_stored_image, adopt, begun, claim, handlers, published

REVISION = {"id": "rev_1", "product_id": "prd_1", "view_type": "back", "key": "assets/org/a.jpg"}


@pytest.fixture(autouse=True)
def the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: Any = workflows.registered()
    monkeypatch.setitem(registered, view_again.NAME, view_again.LINE)


def one_by_one(db: Database, engine: Engine, items: Sequence[Claimed]) -> list[bool]:
    return [adopt(db, engine, item) for item in items]


def together(db: Database, engine: Engine, items: Sequence[Claimed]) -> list[bool]:
    answer = Answered(model="scripted-1", cost_microusd=5)
    return writes.record(
        engine, db, [Result(item=item, answer=answer, images=[a_stored_image(item)]) for item in items]
    )


Complete = Callable[[Submission], GenerationCompleted]


@pytest.fixture(params=[one_by_one, together])
def complete(
    request: pytest.FixtureRequest, generation_db: Database, engine: Engine, credits_service: HoldingCredits
) -> Complete:
    """Give what submits a job of one generation, completes it in one of the two ways, and returns what is told."""

    def run(asked: Submission) -> GenerationCompleted:
        handlers.submit(generation_db, credits_service, engine, asked)
        items = begun(generation_db, claim(generation_db))
        assert request.param(generation_db, engine, items) == [True]
        (event,) = [each for each in published(generation_db) if isinstance(each, GenerationCompleted)]
        return event

    return run


def a_view_again(**inputs: Any) -> Submission:
    return a_submission(workflow=view_again.NAME, inputs={"revision_id": "rev_1", **inputs}, assets={"rev_1": REVISION})


def test_a_view_made_anew_is_told_with_all_that_the_catalog_needs(generation_db: Database, complete: Complete) -> None:
    asked = a_view_again()

    event = complete(asked)

    with generation_db.transaction() as session:
        image = session.scalars(sa.select(Image)).one()
        asked_at = session.get_one(Job, asked.job_id).created_at
    assert (event.product_id, event.revision_id) == ("prd_1", "rev_1")
    assert event.renewed_view == RenewedView(
        view_type="back",
        image_id=image.id,
        key=image.key,
        thumbnail_key=image.thumbnail_key,
        content_type="image/jpeg",
        asked_at=rfc3339(asked_at, precision="microseconds"),
    )
    assert image.product_id == "prd_1"


def test_where_its_bytes_lie_no_organization_is_told(complete: Complete) -> None:
    event = complete(a_view_again())

    assert event.renewed_view
    assert event.renewed_view.key not in str(events.public(event))


def test_a_picture_of_a_view_that_is_no_view_renews_none(complete: Complete) -> None:
    event = complete(a_view_again(only_look=True))

    assert (event.product_id, event.renewed_view) == ("prd_1", None)


def test_a_generation_without_a_product_renews_none(complete: Complete) -> None:
    asked = a_submission()
    asked.inputs["variants"] = 1

    event = complete(asked)

    assert (event.product_id, event.renewed_view) == (None, None)
