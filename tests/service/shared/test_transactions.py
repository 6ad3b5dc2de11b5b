"""Units of work against a PostgreSQL that freezes, dies, comes back, or refuses."""

import contextlib
import gc
from collections.abc import Callable

import eventlet
import psutil
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from deploy.local.stack import Postgres
from shared import budget
from shared.budget import TimeLimitExceeded
from shared.database import Database, is_unavailable
from tests.polling import until
from tests.service.shared.outages import frozen, killed, processes_of, within

ONE = sa.text("SELECT 1")
SLEEP = sa.text("SELECT pg_sleep(30)")


def in_use(db: Database) -> int:
    return int(db.engine.pool.checkedout())  # type: ignore[attr-defined]  # QueuePool has it, Pool's type does not


def backend_of(session: Session) -> int:
    return int(session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())


def raised_by(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001  the caller looks at what it is
        return error
    raise AssertionError("nothing was raised")


def test_a_block_that_ends_is_committed_and_one_that_raises_is_not(db: Database) -> None:
    insert = "INSERT INTO effects (line_id) VALUES (:line)"

    with db.transaction() as session:
        session.execute(sa.text(insert), {"line": "kept"})
    with contextlib.suppress(ZeroDivisionError), db.transaction() as session:
        session.execute(sa.text(insert), {"line": "undone"})
        _ = 1 / 0

    with db.transaction() as session:
        assert session.execute(sa.text("SELECT line_id FROM effects")).scalars().all() == ["kept"]


def test_an_address_without_a_driver_gets_the_one_we_use(db: Database) -> None:
    plain = Database(db.url.set(drivername="postgresql").render_as_string(hide_password=False), pool_size=1)

    assert backend_in(plain)
    plain.engine.dispose()


def test_every_connection_carries_limits_that_the_server_keeps(db: Database) -> None:
    with db.transaction(time_limit_seconds=3) as session:
        shown = {
            name: session.execute(sa.text(f"SHOW {name}")).scalar_one()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout", "timezone")
        }

    assert shown == {
        "statement_timeout": "3s",
        "idle_in_transaction_session_timeout": "5s",
        "lock_timeout": "4s",
        "timezone": "UTC",
    }


def test_a_statement_that_takes_too_long_is_interrupted_and_its_slot_given_back(db: Database) -> None:
    with within(4), pytest.raises(TimeLimitExceeded), db.transaction(time_limit_seconds=0.3) as session:
        session.execute(SLEEP)

    assert in_use(db) == 0
    with db.transaction() as session:
        assert session.execute(ONE).scalar_one() == 1


def test_the_budget_of_the_request_shortens_the_unit_of_work(db: Database) -> None:
    with (
        within(4),
        budget.limited_to(0.3),
        pytest.raises(TimeLimitExceeded),
        db.transaction(time_limit_seconds=5) as session,
    ):
        session.execute(SLEEP)


def test_work_whose_budget_is_used_up_does_not_begin(db: Database) -> None:
    entered = False

    with budget.limited_to(0), pytest.raises(TimeLimitExceeded), db.transaction():
        entered = True

    assert not entered
    assert in_use(db) == 0


def test_a_frozen_backend_fails_within_the_limit_and_the_pool_recovers(db: Database) -> None:
    with db.transaction() as session:
        backend = backend_of(session)

    with frozen([backend]):
        with within(4), pytest.raises(TimeLimitExceeded), db.transaction(time_limit_seconds=0.5) as session:
            session.execute(ONE)
        with within(3), db.transaction() as session:
            other = backend_of(session)

    assert other != backend
    assert in_use(db) == 0


def work_that_freezes(db: Database, *, then: Callable[[Session], object], time_limit_seconds: float = 0.5) -> None:
    """Do a unit of work whose backend stops in its middle, until the work has ended one way or another."""
    with contextlib.ExitStack() as until_the_end, db.transaction(time_limit_seconds=time_limit_seconds) as session:
        session.execute(sa.text("INSERT INTO effects (line_id) VALUES ('1')"))
        until_the_end.enter_context(frozen([backend_of(session)]))
        then(session)


def test_a_backend_that_freezes_in_the_middle_of_the_work_fails_within_the_limit(db: Database) -> None:
    with within(4), pytest.raises(TimeLimitExceeded):
        work_that_freezes(db, then=lambda session: session.execute(ONE))

    assert in_use(db) == 0


def test_a_backend_that_freezes_before_the_commit_fails_within_the_limit(db: Database) -> None:
    with within(4), pytest.raises(TimeLimitExceeded):
        work_that_freezes(db, then=lambda _session: None)

    assert in_use(db) == 0


def test_a_handler_that_fails_while_its_backend_is_frozen_does_not_hang_in_the_rollback(db: Database) -> None:
    with within(4), pytest.raises(ZeroDivisionError):
        work_that_freezes(db, then=lambda _session: 1 / 0, time_limit_seconds=5)

    assert in_use(db) == 0


def test_a_wholly_frozen_server_fails_every_caller_within_the_limit_and_leaks_no_slot(
    db: Database, server: Postgres
) -> None:
    def try_it() -> Exception:
        def work() -> None:
            with db.transaction(time_limit_seconds=0.5) as session:
                session.execute(ONE)

        return raised_by(work)

    with db.transaction() as session:
        session.execute(ONE)

    with frozen(processes_of(server)), within(5):
        # Three times as many as the pool has slots: some wait on the wire, some to connect, some for a slot.
        errors = [thread.wait() for thread in [eventlet.spawn(try_it) for _ in range(15)]]

    assert all(is_unavailable(error) for error in errors), errors
    until(lambda: in_use(db) == 0, what="an unused pool")
    threads = [eventlet.spawn(backend_in, db) for _ in range(5)]
    assert all(thread.wait() for thread in threads)
    assert in_use(db) == 0


def backend_in(db: Database) -> int:
    with db.transaction() as session:
        return backend_of(session)


def test_connecting_to_a_frozen_server_is_bounded(db: Database, server: Postgres) -> None:
    with frozen(processes_of(server)), within(5):
        error = raised_by(db.connect)

    assert isinstance(error, psycopg2.OperationalError)
    assert is_unavailable(error)


def connections_to(server: Postgres) -> set[int]:
    """Return the file descriptors of this process's connections to a server."""
    every = psutil.Process().net_connections()
    return {one.fd for one in every if one.raddr and one.raddr.port == server.port}


def test_connecting_that_is_interrupted_leaves_no_half_open_connection(db: Database, server: Postgres) -> None:
    """The server keeps one for a minute, and creates and drops no database meanwhile; the garbage may wait longer."""
    gc.disable()
    try:
        before = connections_to(server)
        with frozen(processes_of(server)):
            with budget.limited_to(0.2):
                raised_by(lambda: backend_in(db))
            thread = eventlet.spawn(backend_in, db)
            eventlet.sleep(0.2)
            thread.kill()
            left = connections_to(server) - before
    finally:
        gc.enable()

    assert left == set()
    assert in_use(db) == 0


def test_after_a_restart_of_postgresql_the_next_transaction_works_without_an_error(
    db: Database, server: Postgres
) -> None:
    threads = [eventlet.spawn(backend_in, db) for _ in range(5)]
    assert all(thread.wait() for thread in threads)

    with killed(server):
        pass

    threads = [eventlet.spawn(backend_in, db) for _ in range(5)]
    assert all(thread.wait() for thread in threads)
    assert in_use(db) == 0


def test_a_server_that_is_down_counts_as_unavailable_at_once(db: Database, server: Postgres) -> None:
    with killed(server), within(3):
        error = raised_by(lambda: backend_in(db))

    assert isinstance(error, OperationalError)
    assert is_unavailable(error)


def test_a_connection_that_an_administrator_ends_in_the_middle_counts_as_unavailable(
    db: Database, server: Postgres
) -> None:
    def work() -> None:
        with db.transaction() as session:
            backend = backend_of(session)
            with contextlib.closing(psycopg2.connect(server.superuser_url.replace("+psycopg2", ""))) as administrator:
                administrator.cursor().execute("SELECT pg_terminate_backend(%s)", (backend,))
            session.execute(ONE)

    error = raised_by(work)

    assert is_unavailable(error)
    assert in_use(db) == 0


def test_a_deadlock_counts_as_unavailable(db: Database) -> None:
    with db.transaction() as session:
        session.execute(sa.text("INSERT INTO effects (line_id) VALUES ('a'), ('b')"))
    lock = sa.text("SELECT FROM effects WHERE line_id = :line FOR UPDATE")

    def lock_both(first: str, second: str) -> Exception | None:
        try:
            with db.transaction() as session:
                session.execute(lock, {"line": first})
                eventlet.sleep(0.1)
                session.execute(lock, {"line": second})
        except DBAPIError as error:
            return error
        return None

    threads = [eventlet.spawn(lock_both, "a", "b"), eventlet.spawn(lock_both, "b", "a")]
    errors = [error for error in (thread.wait() for thread in threads) if error]

    assert [getattr(error.orig, "pgcode", None) for error in errors] == ["40P01"]
    assert is_unavailable(errors[0])


@pytest.mark.parametrize(
    ("code", "unavailable"),
    [
        ("40001", True),  # serialization failure
        ("40P01", True),  # deadlock
        ("53300", True),  # too many connections
        ("55P03", True),  # lock timeout
        ("57P03", True),  # starting up
        ("57014", True),  # statement timeout, or cancelled by an administrator
        ("08006", True),  # connection failure
        ("23505", False),  # unique violation
        ("22P02", False),  # malformed value
        ("42501", False),  # not allowed
        ("P0001", False),  # raised by a function
    ],
)
def test_only_errors_that_pass_by_themselves_count_as_unavailable(
    db: Database, code: str, *, unavailable: bool
) -> None:
    def work() -> None:
        with db.transaction() as session:
            session.execute(sa.text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"))

    assert is_unavailable(raised_by(work)) is unavailable


def test_a_bug_in_the_code_does_not_count_as_unavailable() -> None:
    assert not is_unavailable(ZeroDivisionError())
    assert not is_unavailable(OSError("no such file"))


def test_a_pool_without_a_free_slot_counts_as_unavailable_and_leaks_none(db: Database) -> None:
    def hold() -> None:
        with db.transaction() as session:
            session.execute(sa.text("SELECT pg_sleep(1)"))

    holders = [eventlet.spawn(hold) for _ in range(5)]
    eventlet.sleep(0.1)

    def work() -> None:
        with db.transaction(time_limit_seconds=0.2):
            pass

    errors = [thread.wait() for thread in [eventlet.spawn(raised_by, work) for _ in range(10)]]

    assert all(is_unavailable(error) for error in errors)
    for holder in holders:
        holder.wait()
    assert in_use(db) == 0
    assert all(thread.wait() for thread in [eventlet.spawn(backend_in, db) for _ in range(5)])


def test_a_killed_green_thread_gives_its_slot_back(db: Database) -> None:
    def hold() -> None:
        with db.transaction() as session:
            session.execute(SLEEP)

    thread = eventlet.spawn(hold)
    until(lambda: in_use(db) == 1)

    thread.kill()

    assert in_use(db) == 0
    assert backend_in(db)


def test_two_green_threads_get_two_connections(db: Database) -> None:
    def slow() -> int:
        with db.transaction() as session:
            backend = backend_of(session)
            session.execute(sa.text("SELECT pg_sleep(0.1)"))
            return backend

    threads = [eventlet.spawn(slow) for _ in range(2)]

    assert len({thread.wait() for thread in threads}) == 2


def test_the_values_of_a_failed_statement_are_not_in_its_error(db: Database) -> None:
    def work() -> None:
        with db.transaction() as session:
            session.execute(sa.text("SELECT 1 / 0, :value"), {"value": "jane@example.com"})

    assert "jane@example.com" not in str(raised_by(work))
