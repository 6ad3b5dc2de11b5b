"""What a waiting job tells its organization: its place, what it waits for, and how long it will take."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.generation import circuits, endings, pace, queries
from services.generation.engine import Engine
from services.generation.models import Load
from services.generation.operations import Refused
from shared.database import Database
from shared.ids import new_id
from tests.service.generation.steps import begun, claim, job_of, submitted


def reason_of(db: Database, job_id: str) -> str | None:
    return job_of(db, job_id)["waiting_reason"]


def note(db: Database, outcome: Refused, *, times: int = 1) -> None:
    for _ in range(times):
        with db.transaction() as session:
            circuits.note(session, provider="local", model="scripted-1", outcomes=[("op", outcome)])


def test_behind_its_organizations_own_limit(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    submitted(generation_db, engine, variants=2, org_id=org_id)
    begun(generation_db, claim(generation_db, per_organization=2))
    later = submitted(generation_db, engine, variants=2, org_id=org_id)

    assert reason_of(generation_db, later) == "organization_limit"


def test_behind_the_providers_limit(generation_db: Database, engine: Engine) -> None:
    submitted(generation_db, engine, variants=4)
    begun(generation_db, claim(generation_db, limit=4))
    later = submitted(generation_db, engine, variants=2)

    assert reason_of(generation_db, later) == "provider_limit"


def test_while_the_provider_wants_to_be_left_alone(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    note(generation_db, Refused(code="rate_limited", detail="", retry_after_seconds=30))

    assert reason_of(generation_db, job_id) == "rate_limit"


def test_while_the_bucket_is_empty(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    with generation_db.transaction() as session:
        now = endings.database_now(session)
        session.add(
            Load(
                provider="local",
                tokens=0,
                refilled_at=now + timedelta(seconds=1),
                at_work=0,
                most=9,
                per_organization=9,
                per_minute=6,
            )
        )

    assert reason_of(generation_db, job_id) == "rate_limit"


def test_while_the_circuit_is_open(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    note(generation_db, Refused(code="provider_error", detail=""), times=10)

    assert reason_of(generation_db, job_id) == "circuit_open"


def test_behind_older_jobs_and_otherwise_only_for_a_worker(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    first, second = (submitted(generation_db, engine, org_id=org_id) for _ in range(2))

    assert (reason_of(generation_db, first), reason_of(generation_db, second)) == ("free_worker", "behind_others")
    assert job_of(generation_db, second)["queue_position"] == 2


def test_a_job_of_which_everything_is_at_work_waits_for_nothing(generation_db: Database, engine: Engine) -> None:
    job_id = submitted(generation_db, engine)
    begun(generation_db, claim(generation_db))

    assert reason_of(generation_db, job_id) is None


def test_how_long_it_takes_is_what_was_measured(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    first = submitted(generation_db, engine, variants=4, org_id=org_id)
    begun(generation_db, claim(generation_db, limit=2))
    second = submitted(generation_db, engine, variants=4, org_id=org_id)
    with generation_db.transaction() as session:
        pace.merge(session, {("local", "image.stage"): [30.0]})

    # Two at work at a time: of the first job four, before the second two that are due and then its own four.
    assert job_of(generation_db, first)["eta_seconds"] == 60
    assert job_of(generation_db, second)["eta_seconds"] == 90


def test_newer_measurements_weigh_more(generation_db: Database) -> None:
    with generation_db.transaction() as session:
        pace.merge(session, {("local", "image.stage"): [10.0]})
        pace.merge(session, {("local", "image.stage"): [20.0]})
        mean = session.scalar(sa.text("SELECT mean_seconds FROM operation_times"))

    assert mean == 11.0


def test_an_organization_sees_as_much_in_its_own_list(generation_db: Database, engine: Engine) -> None:
    org_id = new_id("org")
    for _ in range(2):
        submitted(generation_db, engine, org_id=org_id)
    note(generation_db, Refused(code="provider_error", detail=""), times=10)

    with generation_db.transaction(org_id=org_id, livemode=True) as session:
        listed = queries.jobs(session, org_id=org_id, livemode=True)["data"]

    assert [job["waiting_reason"] for job in listed] == ["circuit_open"] * 2


def test_no_organization_can_write_what_all_share(generation_db: Database) -> None:
    with generation_db.transaction(org_id="org_1", livemode=True) as session:
        allowed = session.execute(
            sa.text(
                "SELECT t FROM unnest(ARRAY['shares', 'circuits', 'loads', 'operation_times', 'sunset_notices']) AS t"
                " WHERE has_table_privilege(current_user, t, 'INSERT, UPDATE, DELETE')"
            )
        ).all()

    assert allowed == []


@pytest.mark.parametrize("column", ["last_served", "last_tested", "probe_id"])
def test_no_organization_can_read_who_was_served_last(generation_db: Database, column: str) -> None:
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        generation_db.transaction(org_id="org_1", livemode=True) as session,
    ):
        session.execute(sa.text(f"SELECT {column} FROM circuits"))
