"""What a provider bears, over all workers: so many at work, so many a minute, and nothing while its circuit is open."""

import contextlib
import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from benchmarks.claiming import fill
from services.generation import breaker, circuits, claims, endings, metrics, pace
from services.generation.breaker import Circuit
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.models import CircuitRow, Load, OperationTime
from services.generation.operations import Answered, Outcome, Refused
from shared.database import SYSTEM_ROLE, Database
from shared.storage import ObjectStore
from tests.fakes import ScriptedProvider
from tests.polling import until
from tests.service.generation.steps import SOURCE, at_work, claim, ended, names, published, submitted
from tests.service.generation.test_turns_of_organizations import at_once, end, queued

DOWN = Refused(code="provider_error", detail="HTTP 500")
WORKED = Answered(model="scripted-1")
LOCAL = ("local", "scripted-1")


def note(db: Database, outcome: Outcome, *, operation_id: str = "op_1", times: int = 1) -> None:
    for _ in range(times):
        with db.transaction() as session:
            provider, model = LOCAL
            events = circuits.note(session, provider=provider, model=model, outcomes=[(operation_id, outcome)])
            db.publish(session, events)


def circuit(db: Database) -> Circuit:
    with db.transaction() as session:
        return circuits.known(session, ["local"])[LOCAL]


def given_circuit(db: Database, given: Circuit) -> None:
    values = {name: getattr(given, name) for name in Circuit.__dataclass_fields__}
    with db.transaction() as session:
        session.merge(CircuitRow(provider="local", model="scripted-1", **values))


def now_in(db: Database) -> datetime:
    with db.transaction() as session:
        return endings.database_now(session)


def an_open_circuit(db: Database, *, probe_in_seconds: float) -> None:
    note(db, DOWN, times=10)
    with db.transaction() as session:
        session.execute(sa.update(CircuitRow).values(probe_at=now_in(db) + timedelta(seconds=probe_in_seconds)))


def rated(db: Database, *, per_minute: int, free: int = 10) -> list[Claimed]:
    with db.transaction() as session:
        return claims.claim(
            session,
            worker="w",
            free=free,
            limits={"local": 1000},
            rates={"local": per_minute},
            per_organization=1000,
        )


def an_age_ago(db: Database, *, seconds: float) -> None:
    """Let the bucket be one that was last filled so many seconds ago, and empty then."""
    with db.transaction() as session:
        session.execute(sa.update(Load).values(tokens=0, refilled_at=now_in(db) - timedelta(seconds=seconds)))


def test_a_place_is_free_as_soon_as_who_claims_has_the_answer_and_only_under_its_own_claim(
    generation_db: Database, engine: Engine
) -> None:
    queued(generation_db, engine, count=3)
    (first,) = claim(generation_db, limit=1)
    of_an_earlier_claim = replace(first, fence=first.fence - 1)

    assert claim(generation_db, limit=1) == []
    assert claim(generation_db, limit=1, answered=[of_an_earlier_claim]) == []
    (second,) = claim(generation_db, limit=1, answered=[first])
    assert claim(generation_db, limit=1, answered=[first]) == []

    assert second.id != first.id


def test_no_more_are_sent_at_a_stroke_than_the_bucket_holds(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=16)

    assert len(rated(generation_db, per_minute=60)) == 6
    assert rated(generation_db, per_minute=60) == []


def test_the_bucket_is_refilled_at_its_rate_and_not_beyond_its_brim(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=24)
    rated(generation_db, per_minute=60)

    an_age_ago(generation_db, seconds=2.5)
    after_a_moment = rated(generation_db, per_minute=60)
    an_age_ago(generation_db, seconds=3600)
    after_an_hour = rated(generation_db, per_minute=60)

    assert (len(after_a_moment), len(after_an_hour)) == (2, 6)


def test_a_clock_that_is_put_back_by_hours_does_not_leave_the_bucket_empty_for_hours(
    generation_db: Database, engine: Engine
) -> None:
    queued(generation_db, engine, count=16)
    rated(generation_db, per_minute=60)
    an_age_ago(generation_db, seconds=-7200)

    assert len(rated(generation_db, per_minute=60)) == 6
    assert rated(generation_db, per_minute=60) == []


def test_what_has_ended_gives_no_token_back(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=16)
    rated(generation_db, per_minute=60)
    end(generation_db, org_id)

    assert rated(generation_db, per_minute=60) == []


def test_many_workers_share_one_bucket(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=24)

    taken = at_once(generation_db, 5, lambda: rated(generation_db, per_minute=40, free=1))

    assert len(taken) == 4


def test_a_provider_without_a_rate_has_no_bucket(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=24)

    assert len(claim(generation_db, free=24, per_organization=100)) == 24


def test_a_429_stops_the_model_for_every_worker_until_then(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=4)
    note(generation_db, Refused(code="rate_limited", detail="", retry_after_seconds=30))

    paused = claim(generation_db)
    given_circuit(generation_db, Circuit(paused_until=now_in(generation_db)))

    assert paused == []
    assert len(claim(generation_db)) == 4


def test_one_model_that_waits_does_not_hold_up_the_others(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=40)
    note(generation_db, Refused(code="rate_limited", detail="", retry_after_seconds=30))
    other = submitted(generation_db, engine, variants=2, org_id=org_id)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE operations SET model_requested = 'm2' WHERE job_id = :id"), {"id": other})

    assert {item.job_id for item in claim(generation_db)} == {other}


def test_ten_failures_in_a_row_open_the_circuit_and_say_so_once(generation_db: Database) -> None:
    note(generation_db, DOWN, times=9)
    before = circuit(generation_db).state
    note(generation_db, DOWN, times=3)

    (event,) = published(generation_db)
    assert (before, circuit(generation_db).state) == ("closed", "open")
    assert (event.provider, event.model, event.failures, event.code) == (*LOCAL, 10, "provider_error")


def test_operations_of_an_open_circuit_wait(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=4)
    note(generation_db, DOWN, times=10)

    assert claim(generation_db) == []


def test_one_operation_is_the_probe_whoever_claims(generation_db: Database, engine: Engine) -> None:
    for _ in range(3):
        queued(generation_db, engine, count=8)
    an_open_circuit(generation_db, probe_in_seconds=0)

    (probe,) = at_once(generation_db, 4)

    assert (circuit(generation_db).state, circuit(generation_db).probe_id) == ("half_open", probe.id)


def test_a_probe_that_gets_through_closes_the_circuit_for_all(generation_db: Database, engine: Engine) -> None:
    queued(generation_db, engine, count=8)
    an_open_circuit(generation_db, probe_in_seconds=0)
    (probe,) = claim(generation_db)

    note(generation_db, WORKED, operation_id=probe.id)

    assert len(claim(generation_db)) == 7
    assert names(generation_db)[-2:] == ["ProviderCircuitOpened", "ProviderCircuitClosed"]


def test_a_probe_that_fails_leaves_the_circuit_open_and_says_nothing(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=8)
    an_open_circuit(generation_db, probe_in_seconds=0)
    (probe,) = claim(generation_db)
    end(generation_db, org_id)

    note(generation_db, DOWN, operation_id=probe.id)

    assert claim(generation_db) == []
    assert names(generation_db).count("ProviderCircuitOpened") == 1


def test_a_probe_of_which_nothing_more_is_heard_is_followed_by_another(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=8)
    an_open_circuit(generation_db, probe_in_seconds=0)
    (lost,) = claim(generation_db)
    end(generation_db, org_id)

    (second,) = claim(generation_db)

    assert second.id != lost.id


def test_how_many_circuits_are_open_is_measured(generation_db: Database) -> None:
    note(generation_db, DOWN, times=10)

    with generation_db.transaction() as session:
        metrics.measure(session)

    assert metrics.circuit_open.labels("local")._value.get() == 1  # noqa: SLF001  the client has no other way to read it


def test_what_a_worker_meets_opens_the_circuit(
    generation_db: Database, engine: Engine, provider: ScriptedProvider, store: ObjectStore
) -> None:
    provider.script = [DOWN] * 100
    store.put(key=SOURCE, chunks=b"jpeg", content_type="image/jpeg")
    for _ in range(3):
        submitted(generation_db, engine, variants=4)

    with at_work(generation_db, store, engine):
        until(lambda: "ProviderCircuitOpened" in names(generation_db), what="the circuit to open")

    assert circuit(generation_db).state == "open"
    assert claim(generation_db) == []


def test_what_a_worker_measures_is_written_down(
    generation_db: Database, engine: Engine, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "FLUSH_SECONDS", 0.0)
    store.put(key=SOURCE, chunks=b"jpeg", content_type="image/jpeg")
    job_id = submitted(generation_db, engine, variants=2)

    with at_work(generation_db, store, engine):
        ended(generation_db, job_id)

    with generation_db.transaction() as session:
        (time,) = session.scalars(sa.select(OperationTime))
    assert (time.provider, time.name, time.measured) == ("local", "image.stage", 2)
    assert 0 < time.mean_seconds < 5


def test_success_where_nothing_was_wrong_writes_nothing(generation_db: Database) -> None:
    note(generation_db, WORKED)

    with generation_db.transaction() as session:
        assert circuits.known(session, ["local"]) == {}


@pytest.mark.parametrize("paused", [None, -1, 60])
@pytest.mark.parametrize("state", ["closed", "open", "half_open"])
@pytest.mark.parametrize("probe_in_seconds", [-1, 60])
@pytest.mark.parametrize("at_work", [False, True])
def test_a_claim_admits_what_the_rule_admits(
    generation_db: Database, engine: Engine, *, paused: int | None, state: str, probe_in_seconds: int, at_work: bool
) -> None:
    queued(generation_db, engine, count=3)
    (working,) = claim(generation_db, free=1)
    now = now_in(generation_db)
    is_open = state != "closed"
    given = Circuit(
        state=state,
        opened_at=now if is_open else None,
        probe_at=now + timedelta(seconds=probe_in_seconds) if is_open else None,
        probe_id=working.id if at_work else "op_gone",
        paused_until=paused and now + timedelta(seconds=paused),
    )
    given_circuit(generation_db, given)

    admitted = breaker.admits(given, probe_at_work=at_work, now=now)

    assert len(claim(generation_db)) == {"all": 2, "probe": 1, "none": 0}[admitted]


def test_a_claim_planned_while_nothing_was_there_reads_no_table_of_operations_through_later(
    generation_db: Database,
) -> None:
    assert claim(generation_db) == []

    with generation_db.transaction() as session:
        parameters = sa.text("SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = :name")
        count = session.execute(parameters, {"name": "claim_operations"}).scalar_one()
        nothing = ", ".join(["NULL"] * count)
        plan = "\n".join(session.execute(sa.text(f"EXPLAIN EXECUTE claim_operations({nothing})")).scalars())

    assert "Seq Scan on operations" not in plan
    assert "operations_queue" in plan


def test_a_claim_reads_no_table_of_operations_through(generation_db: Database) -> None:
    with contextlib.closing(generation_db.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {SYSTEM_ROLE}")
        fill(connection, organizations=50, each=40)
        cursor.execute("RESET ROLE; ANALYZE jobs, generations, operations")
        connection.commit()
    values = {
        "interactive": 0,
        "standard": 1,
        "test": 2,
        "worker": "w",
        "free": 8,
        "limits": json.dumps(claims.provider_limits({"local": 100, "replicate": 100}, {})),
        "per_organization": 20,
        "ageing": 60.0,
        "window": claims.WINDOW,
        "least_of_a_line": claims.LEAST_OF_A_LINE,
        "breadth": claims.BREADTH,
        "kept_free": claims.KEPT_FREE,
        "lease": 12.0,
        "answered_ids": [],
        "answered_fences": [],
    }
    with generation_db.transaction() as session:
        _, statement = claims.CLAIM_STATEMENTS
        plan = "\n".join(session.execute(sa.text(f"EXPLAIN {statement}"), values).scalars())

    assert "Seq Scan on operations" not in plan
    assert "operations_queue" in plan
