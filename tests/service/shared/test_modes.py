"""The second wall between what live keys and what test keys have made, in every table whose rows have a mode."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from shared.config import SERVICES
from shared.database import Database

ALL = sa.text("SELECT line_id FROM marks ORDER BY line_id")
INSERT = sa.text("INSERT INTO marks (line_id, org_id, livemode) VALUES (:line, :org, :livemode)")
# Keys are the organization's, whatever mode they are for: both modes list them. And sums of days are of all
# organizations together: no tenant's role can read them.
SHARED = {("gateway", "api_keys"), ("notifications", "headshot_days")}
WITH_MODES = sa.text(
    "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'livemode'"
)
PARTED = sa.text(
    "SELECT tablename FROM pg_policies WHERE 'darkroom_tenant' = ANY (roles)"
    " AND qual LIKE '%darkroom.livemode%' AND with_check LIKE '%darkroom.livemode%'"
)


@pytest.fixture
def parted(db: Database) -> Database:
    """A database whose table has two lines of one organization, one of each mode, and one of another."""
    with db.transaction() as session:
        for line, org_id, livemode in (("live", "org_1", True), ("test", "org_1", False), ("theirs", "org_2", True)):
            session.execute(INSERT, {"line": line, "org": org_id, "livemode": livemode})
    return db


def seen(database: Database, **scope: Any) -> list[str]:
    """Return every line there is: without a WHERE, as a careless query would."""
    with database.transaction(**scope) as session:
        return list(session.execute(ALL).scalars())


def test_each_mode_sees_its_own_even_without_a_where(parted: Database) -> None:
    assert seen(parted, org_id="org_1", livemode=True) == ["live"]
    assert seen(parted, org_id="org_1", livemode=False) == ["test"]
    assert seen(parted, org_id="org_2", livemode=False) == []


def test_who_does_not_say_for_which_mode_sees_nothing(parted: Database) -> None:
    assert seen(parted, org_id="org_1") == []


def test_handlers_see_both_modes(parted: Database) -> None:
    assert seen(parted) == ["live", "test", "theirs"]


@pytest.mark.parametrize("livemode", [True, False])
def test_a_mode_changes_and_deletes_nothing_of_the_other(parted: Database, *, livemode: bool) -> None:
    with parted.transaction(org_id="org_1", livemode=livemode) as session:
        changed = session.execute(sa.text("UPDATE marks SET line_id = 'changed' RETURNING livemode")).scalars().all()
        deleted = session.execute(sa.text("DELETE FROM marks RETURNING livemode")).scalars().all()

    assert (changed, deleted) == ([livemode], [livemode])
    assert len(seen(parted)) == 2


@pytest.mark.parametrize("scope", [{"livemode": True}, {"livemode": False}, {}])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO marks VALUES ('forged', 'org_1', current_setting('darkroom.livemode') <> 'true')",
        "INSERT INTO marks (line_id, org_id) VALUES ('of no mode', 'org_1')",
    ],
)
def test_a_mode_writes_no_row_for_the_other(parted: Database, scope: dict[str, bool], statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        parted.transaction(org_id="org_1", **scope) as session,
    ):
        session.execute(sa.text(statement))


def test_a_row_stays_in_its_mode(parted: Database) -> None:
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        parted.transaction(org_id="org_1", livemode=False) as session,
    ):
        session.execute(sa.text("UPDATE marks SET livemode = true"))


def test_the_mode_is_gone_with_its_transaction(database_url: str, parted: Database) -> None:
    single = Database(database_url, pool_size=1)

    assert seen(single, org_id="org_1", livemode=False) == ["test"]
    assert seen(single, org_id="org_1") == []
    assert seen(parted, org_id="org_1", livemode=True) == ["live"]
    single.engine.dispose()


@pytest.mark.parametrize("service", SERVICES)
def test_every_table_whose_rows_have_a_mode_is_parted(make_database: Callable[[str], Database], service: str) -> None:
    with make_database(service).transaction() as session:
        with_modes = {(service, table) for table in session.execute(WITH_MODES).scalars()}
        parted = {(service, table) for table in session.execute(PARTED).scalars()}

    assert with_modes - SHARED == parted
