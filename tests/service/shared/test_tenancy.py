"""The second wall between organizations: what a transaction may see and write, whatever its SQL says."""

import contextlib
from collections.abc import Callable, Iterator

import eventlet
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from deploy.local.stack import Postgres
from shared.budget import TimeLimitExceeded
from shared.database import Database
from tests.service.shared.outages import frozen, killed
from tests.service.shared.wire import captured

ALL = sa.text("SELECT line_id FROM effects ORDER BY line_id")
INSERT = sa.text("INSERT INTO effects (line_id, org_id) VALUES (:line, :org)")
STATE = sa.text("SELECT current_user, coalesce(current_setting('darkroom.org_id', true), '')")


@pytest.fixture
def single(database_url: str, db: Database) -> Iterator[Database]:
    """A database with one line of each of two organizations, and a pool of a single connection."""
    with db.transaction() as session:
        session.execute(INSERT, {"line": "ours", "org": "org_1"})
        session.execute(INSERT, {"line": "theirs", "org": "org_2"})
    database = Database(database_url, pool_size=1)
    yield database
    database.engine.dispose()


def lines(session: Session) -> list[str]:
    """Return every line there is: without a WHERE, as a careless query would."""
    return list(session.execute(ALL).scalars())


def seen_without_scope(database: Database) -> list[str]:
    """Return what a query sees on the pool's connection when nobody has said for whom it is."""
    with database.engine.connect() as connection:
        return list(connection.execute(ALL).scalars())


def test_an_organization_sees_nothing_of_another_even_without_a_where(single: Database) -> None:
    with single.transaction(org_id="org_1") as session:
        assert lines(session) == ["ours"]
    with single.transaction(org_id="org_2") as session:
        assert lines(session) == ["theirs"]
    with single.transaction(org_id="org_3") as session:
        assert lines(session) == []


def test_an_organization_changes_and_deletes_nothing_of_another(single: Database) -> None:
    with single.transaction(org_id="org_1") as session:
        changed = session.execute(sa.text("UPDATE effects SET line_id = 'changed' RETURNING line_id")).scalars().all()
        deleted = session.execute(sa.text("DELETE FROM effects RETURNING org_id")).scalars().all()

    assert (changed, deleted) == (["changed"], ["org_1"])
    with single.transaction() as session:
        assert lines(session) == ["theirs"]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO effects (line_id, org_id) VALUES ('forged', 'org_2')",
        "UPDATE effects SET org_id = 'org_2'",
    ],
)
def test_an_organization_writes_no_row_in_the_name_of_another(single: Database, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"), single.transaction(org_id="org_1") as session:
        session.execute(sa.text(statement))


def test_handlers_see_all_organizations(single: Database) -> None:
    with single.transaction() as session:
        assert lines(session) == ["ours", "theirs"]


def test_an_unset_tenant_sees_no_row(single: Database) -> None:
    with single.transaction(org_id="") as session:
        assert lines(session) == []
    with single.engine.connect() as connection:
        connection.execute(sa.text("SET LOCAL ROLE darkroom_tenant"))
        assert list(connection.execute(ALL).scalars()) == []


def test_role_tenant_and_limits_are_set_by_the_first_and_only_statement_before_the_work(single: Database) -> None:
    statements: list[str] = []
    sa.event.listen(single.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    with single.transaction(org_id="org_1") as session:
        state = tuple(session.execute(STATE).one())

    assert state == ("darkroom_tenant", "org_1")
    assert len(statements) == 2
    assert all(name in statements[0] for name in ("statement_timeout", "darkroom.org_id", "set_config('role'"))


def test_a_forgotten_scope_sees_no_row_although_the_login_role_owns_the_table(single: Database) -> None:
    assert seen_without_scope(single) == []


def test_work_after_a_commit_inside_the_block_sees_no_row(single: Database) -> None:
    with single.transaction(org_id="org_1") as session:
        session.commit()

        assert lines(session) == []


def test_a_tenant_adds_to_the_outbox_and_reads_neither_it_nor_the_inbox(single: Database) -> None:
    with single.transaction(org_id="org_1") as session:
        single.publish(session, [captured()])

    for table in ("outbox", "inbox"):
        with pytest.raises(ProgrammingError, match="permission denied"), single.transaction(org_id="org_1") as session:
            session.execute(sa.text(f"SELECT FROM {table}"))


def test_a_tenant_whose_setting_is_emptied_sees_no_row(single: Database) -> None:
    with single.transaction(org_id="org_1") as session:
        session.execute(sa.text("SELECT set_config('darkroom.org_id', '', true)"))

        assert lines(session) == []


# --- what a connection that comes back to the pool carries -------------------------------------------------------


def fails(database: Database, _server: Postgres) -> None:
    with contextlib.suppress(ZeroDivisionError), database.transaction(org_id="org_1") as session:
        lines(session)
        _ = 1 / 0


def breaks_a_rule(database: Database, _server: Postgres) -> None:
    with contextlib.suppress(ProgrammingError), database.transaction(org_id="org_1") as session:
        session.execute(sa.text("SELECT FROM outbox"))


def commits(database: Database, _server: Postgres) -> None:
    with database.transaction(org_id="org_1") as session:
        lines(session)


def runs_out_of_time(database: Database, _server: Postgres) -> None:
    with (
        contextlib.suppress(TimeLimitExceeded),
        database.transaction(org_id="org_1", time_limit_seconds=0.2) as session,
    ):
        session.execute(sa.text("SELECT pg_sleep(10)"))


def freezes(database: Database, _server: Postgres) -> None:
    with (
        contextlib.ExitStack() as stack,
        contextlib.suppress(TimeLimitExceeded),
        database.transaction(org_id="org_1", time_limit_seconds=0.2) as session,
    ):
        stack.enter_context(frozen([session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()]))
        lines(session)


def is_killed(database: Database, _server: Postgres) -> None:
    def hold() -> None:
        with database.transaction(org_id="org_1") as session:
            session.execute(sa.text("SELECT pg_sleep(10)"))

    thread = eventlet.spawn(hold)
    eventlet.sleep(0.1)
    thread.kill()


def loses_its_server(database: Database, server: Postgres) -> None:
    with contextlib.suppress(Exception), database.transaction(org_id="org_1") as session:
        with killed(server):
            pass
        lines(session)


@pytest.mark.parametrize(
    "ending", [fails, breaks_a_rule, commits, runs_out_of_time, freezes, is_killed, loses_its_server]
)
def test_the_next_checkout_has_no_tenant_and_sees_no_row(
    single: Database, server: Postgres, ending: Callable[[Database, Postgres], None]
) -> None:
    ending(single, server)

    with single.engine.connect() as connection:
        role, tenant = connection.execute(STATE).one()
        seen = list(connection.execute(ALL).scalars())
    assert (role, tenant, seen) == ("foundations", "", [])


def test_a_thousand_mixed_transactions_on_one_pool_never_see_a_foreign_row(db: Database) -> None:
    organizations = [f"org_{number}" for number in range(7)]
    with db.transaction() as session:
        for organization in organizations:
            session.execute(INSERT, {"line": f"line of {organization}", "org": organization})

    def look(number: int) -> bool:
        organization = organizations[number % 7]
        try:
            with db.transaction(org_id=organization) as session:
                seen = lines(session)
                if number % 3 == 0:
                    session.execute(sa.text("SELECT FROM outbox"))  # refused
        except ProgrammingError:
            pass
        return seen == [f"line of {organization}"]

    pool = eventlet.GreenPool(20)

    assert all(pool.imap(look, range(1000)))
