"""What is told of the models: how they do, and, once, that one is about to end."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.gateway.schemas.service import ModelSchema
from services.generation import circuits, endings, model_lifecycle, pace
from services.generation.engine import Engine
from services.generation.model_registry import Model
from services.generation.operations import Refused
from shared.database import Database
from tests.service.generation.steps import published


def today(db: Database) -> date:
    with db.transaction() as session:
        return endings.database_now(session).date()


def a_model(**changes: object) -> Model:
    usual = Model(
        provider="local",
        id="scripted-1",
        operations=frozenset({"image.stage", "image.edit"}),
        prices=(),
        valid_from=date(2026, 1, 1),
        replacement="scripted-2",
    )
    return replace(usual, **changes)


def shown(db: Database, engine: Engine, *models: Model) -> list[dict]:
    with db.transaction() as session:
        return model_lifecycle.shown(session, engine, models=models)


def test_a_model_is_shown_with_what_it_is_used_for(generation_db: Database, engine: Engine) -> None:
    (model,) = shown(generation_db, engine, a_model(), a_model(provider="openai"))

    assert (model["provider"], model["id"], model["available"]) == ("local", "scripted-1", True)
    assert model["in_use_for"] == ["image.stage"]
    assert model["health"]["status"] == "ok"


def test_a_model_whose_circuit_is_open_is_down(generation_db: Database, engine: Engine) -> None:
    for _ in range(10):
        with generation_db.transaction() as session:
            circuits.note(
                session,
                provider="local",
                model="scripted-1",
                outcomes=[("op", Refused(code="connect_failed", detail="no route to 10.0.0.1"))],
            )

    (model,) = shown(generation_db, engine, a_model())

    assert (model["health"]["status"], model["health"]["state"]) == ("down", "open")
    assert (model["health"]["failures_in_a_row"], model["health"]["last_failure"]) == (10, "connect_failed")
    assert "10.0.0.1" not in str(model)


def test_the_median_is_of_the_last_fifty(generation_db: Database, engine: Engine) -> None:
    with generation_db.transaction() as session:
        pace.merge(session, {("local", "image.stage"): [100.0] * 60})
        pace.merge(session, {("local", "image.stage"): [1.0] * 20})
        pace.merge(session, {("local", "image.stage"): [2.0] * 30})

    (model,) = shown(generation_db, engine, a_model())

    assert model["health"]["p50_seconds"] == {"image.stage": 2.0}


@pytest.mark.parametrize(("days", "told"), [(31, 0), (30, 1), (1, 1), (0, 0)])
def test_operators_are_told_thirty_days_before_a_model_ends(
    generation_db: Database, engine: Engine, days: int, told: int
) -> None:
    model = a_model(sunset=today(generation_db) + timedelta(days=days))

    assert model_lifecycle.tell_of_sunsets(generation_db, engine, models=[model]) == told


def test_they_are_told_once_for_each_date(generation_db: Database, engine: Engine) -> None:
    soon = today(generation_db) + timedelta(days=20)
    for sunset in (soon, soon, soon + timedelta(days=5)):
        model_lifecycle.tell_of_sunsets(generation_db, engine, models=[a_model(sunset=sunset)])

    told = [(event.model, event.sunset, event.replacement) for event in published(generation_db)]
    assert told == [
        ("scripted-1", soon.isoformat(), "scripted-2"),
        ("scripted-1", (soon + timedelta(days=5)).isoformat(), "scripted-2"),
    ]


def test_models_of_providers_that_are_not_set_up_end_unnoticed(generation_db: Database, engine: Engine) -> None:
    model = a_model(provider="openai", sunset=today(generation_db) + timedelta(days=3))

    assert model_lifecycle.tell_of_sunsets(generation_db, engine, models=[model]) == 0


def test_what_is_shown_is_what_the_contract_says(generation_db: Database, engine: Engine) -> None:
    (model,) = shown(generation_db, engine, a_model(sunset=date(2027, 1, 31)))

    assert ModelSchema().validate(model) == {}
    assert set(model) == set(ModelSchema().fields)
