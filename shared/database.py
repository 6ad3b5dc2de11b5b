"""PostgreSQL as every service uses it: short transactions under a time limit, the tenant wall, inbox and outbox.

Nothing here knows a business table. A handler gets a session and returns events; only this module commits.
"""

import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload

import psycopg2
import psycopg2.extensions
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from shared import budget, events, logs, metrics
from shared.connections import Connection, TransactionConnection
from shared.events import Event

TENANT_ROLE = "darkroom_tenant"
SYSTEM_ROLE = "darkroom_system"
OUTBOX_CHANNEL = "outbox"
_ONCE_COMMITTED = "once_committed"

_STATEMENT_SECONDS = 5.0
_CONNECT_SECONDS = 2.0
_ROLLBACK_SECONDS = 1.0
_NOTIFY_EVERY_SECONDS = 0.02
_WAKE = "channels to notify"
_OUTGOING = "events to write to the outbox"
_CANCELLED = "57014"

delivery_metadata = sa.MetaData()
inbox = sa.Table(
    "inbox",
    delivery_metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("received_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
)
outbox = sa.Table(
    "outbox",
    delivery_metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
)

# One statement sets role, tenant and limits; being the first on a pooled connection it also finds out, without a
# round trip of its own, whether that connection outlived its server.
_SCOPE = (
    "SELECT set_config('statement_timeout', %(statement_ms)s, true), set_config('darkroom.org_id', %(org_id)s, true),"
    " set_config('darkroom.livemode', %(livemode)s, true), set_config('role', %(role)s, true)"
)
_WRITE_OUTBOX = (
    "INSERT INTO outbox (event_id, type, body)"
    " SELECT * FROM unnest(CAST(%(ids)s AS text[]), CAST(%(types)s AS text[]), CAST(%(bodies)s AS text[]))"
)
_SEEN = sa.text(
    "INSERT INTO inbox (consumer, event_id) SELECT :consumer, unnest(CAST(:ids AS text[]))"
    " ON CONFLICT DO NOTHING RETURNING event_id"
)

E = TypeVar("E", bound=Event)


class DatabaseFrozen(budget.TimeLimitExceeded):
    """Not even the statement that opens a transaction was answered in time: the work itself is not to blame."""


class Batch(Sequence[E], Generic[E]):
    """Events delivered together to one consumer; ``consumer`` is the queue's name, the key of the inbox."""

    def __init__(self, items: Sequence[E], *, consumer: str) -> None:
        self._items = tuple(items)
        self.consumer = consumer

    @overload
    def __getitem__(self, index: int) -> E: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[E]: ...
    def __getitem__(self, index: int | slice) -> E | Sequence[E]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)


class Database:
    """One service's database. A pool as large as the work it may do at once; a unit of work holds one connection.

    Args:
        url: ``postgresql://user:password@host:5432/name``.
        application: shown in ``pg_stat_activity``.
        pool_size: connections at most.
    """

    def __init__(self, url: str, *, application: str = "darkroom", pool_size: int = 20) -> None:
        self.url = address(url)
        self._dsn = connection_arguments(self.url, application=application)
        self.engine = sa.create_engine(
            self.url,
            creator=lambda: self._open(TransactionConnection),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_CONNECT_SECONDS,
            pool_recycle=1800,
            pool_use_lifo=True,  # the fewer connections are in use, the warmer is what each of them has cached
            query_cache_size=2000,
            hide_parameters=True,  # else every error text, so logs and dead letters too, would show the values
        )
        self._notified_at: dict[str, float] = {}
        metrics.db_pool_in_use.set_function(lambda: float(self.engine.pool.checkedout()))  # type: ignore[attr-defined]  # QueuePool has it, Pool's type does not

    def connect(self) -> Any:
        """Open a raw psycopg2 connection."""
        return self._open(Connection)

    def _open(self, factory: type[Connection]) -> Any:
        """Connect under a time limit; in a patched process libpq's own has no effect."""
        try:
            with budget.interrupted_after(_CONNECT_SECONDS, "connecting to PostgreSQL"):
                return psycopg2.connect(**self._dsn, connection_factory=factory)
        except budget.TimeLimitExceeded as error:
            raise psycopg2.OperationalError(str(error)) from error

    @contextmanager
    def transaction(
        self,
        *,
        org_id: str | None = None,
        livemode: bool | None = None,
        time_limit_seconds: float = _STATEMENT_SECONDS,
    ) -> Iterator[Session]:
        """Open a session in one transaction; commit when the block ends, roll back when it raises.

        Args:
            org_id: whose rows may be seen and written, enforced by row-level security. None is for handlers,
                schedulers and sweepers, whose batches span organizations.
            livemode: whether those of its live keys and members, or those of its test keys. None sees and writes
                neither, in tables whose rows have a mode.
            time_limit_seconds: for the whole block; an enclosing budget may shorten it.

        Raises:
            TimeLimitExceeded: the block took longer; the connection is thrown away. `DatabaseFrozen` where it had
                not begun.
            sqlalchemy.exc.OperationalError: the database cannot be reached (see `is_unavailable`).
        """
        seconds = budget.remaining_seconds(time_limit_seconds)
        session = Session(self.engine, expire_on_commit=False)
        try:
            with budget.interrupted_after(seconds, "a unit of work in the database"):
                self._enter(session, org_id=org_id, livemode=livemode, seconds=seconds)
                yield session
                self._leave_for_commit(session)
                session.commit()
        except budget.TimeLimitExceeded:
            session.invalidate()
            raise
        except Exception as error:
            _roll_back(session)
            if isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) == _CANCELLED:
                # The server's clock was ahead of ours with the same limit, or an administrator's patience was.
                raise budget.TimeLimitExceeded("PostgreSQL cut a statement off") from error
            raise
        except BaseException:
            # A killed green thread may leave half a conversation on the wire: never reuse that connection.
            session.invalidate()
            raise
        finally:
            session.close()

    def once(self, batch: Batch[E], handler: Callable[[Session, Sequence[E]], Sequence[Event]]) -> None:
        """Apply ``handler`` to the events of ``batch`` this consumer has not seen, in one transaction.

        Inbox rows, the handler's changes and the events it returns are committed together or not at all.
        """
        with self.transaction() as session:
            fresh = self._unseen(session, batch)
            if fresh:
                caused = handler(session, fresh)
                self.publish(session, _with_causes(caused, fresh))

    def publish(self, session: Session, items: Sequence[Event]) -> None:
        """Write events to the outbox, last of all in the transaction; the relay sends them after the commit."""
        if not items:
            return
        stamped = [item if item.meta else events.with_meta(item, _meta_from_context()) for item in items]
        rows = [(item.meta.id, type(item).__name__, events.encode(item).decode()) for item in stamped if item.meta]
        session.info.setdefault(_OUTGOING, []).extend(rows)
        self.notify(session, OUTBOX_CHANNEL)

    def _enter(self, session: Session, *, org_id: str | None, livemode: bool | None, seconds: float) -> None:
        scope = {
            "role": SYSTEM_ROLE if org_id is None else TENANT_ROLE,
            "org_id": org_id or "",
            "livemode": "" if livemode is None else str(livemode).lower(),
            "statement_ms": str(max(1, int(seconds * 1000))),
        }
        try:
            try:
                _run(session, _SCOPE, scope)
            except DBAPIError as error:
                session.rollback()
                if not error.connection_invalidated:
                    raise
                _run(session, _SCOPE, scope)  # the pool has dropped every connection of the old server
        except budget.TimeLimitExceeded as error:
            raise DatabaseFrozen("PostgreSQL does not answer") from error

    def _unseen(self, session: Session, batch: Batch[E]) -> list[E]:
        by_id = {_id_of(item): item for item in batch}
        # In one order everywhere: two consumers given the same events again must not lock each other out.
        new = session.execute(_SEEN, {"consumer": batch.consumer, "ids": sorted(by_id)}).scalars()
        fresh = set(new)
        return [item for event_id, item in by_id.items() if event_id in fresh]

    def notify(self, session: Session, channel: str) -> None:
        """Wake whoever listens on ``channel`` once the session commits, at most every 20 ms.

        NOTIFY takes a lock of the whole cluster at commit (measured: 14k -> 5k commits/s), so listeners also poll.
        """
        session.info.setdefault(_WAKE, set()).add(channel)

    def _leave_for_commit(self, session: Session) -> None:
        """Have the events written, and whoever listens woken, in the same breath as the commit."""
        outgoing, waking = session.info.get(_OUTGOING), self._to_wake(session)
        if not outgoing and not waking:
            return
        connection: Any = session.connection().connection.driver_connection
        if outgoing:
            ids, types, bodies = map(list, zip(*outgoing, strict=True))
            connection.leave_for_commit(_WRITE_OUTBOX, {"ids": ids, "types": types, "bodies": bodies})
        for channel in waking:
            connection.leave_for_commit(f"NOTIFY {channel}")

    def _to_wake(self, session: Session) -> list[str]:
        # Decided last of all: a long transaction, or one that rolls back, would silence others that commit before it.
        now = time.monotonic()
        due = [
            channel
            for channel in sorted(session.info.get(_WAKE, ()))
            if now - self._notified_at.get(channel, 0.0) >= _NOTIFY_EVERY_SECONDS
        ]
        self._notified_at.update(dict.fromkeys(due, now))
        return due


def _run(session: Session, statement: str, values: dict[str, Any] | None = None) -> None:
    """Run what every transaction runs as the driver has it: going through SQLAlchemy's own language costs as much."""
    session.connection().exec_driver_sql(statement, values)


def _roll_back(session: Session) -> None:
    """Undo the session's transaction; a connection that does not answer even to that is thrown away."""
    try:
        with budget.interrupted_after(_ROLLBACK_SECONDS, "a rollback"):
            session.rollback()
    except (DBAPIError, budget.TimeLimitExceeded):
        session.invalidate()


def undo(session: Session) -> None:
    """Roll the session's transaction back as if nothing had been done in it, where it was only to be tried."""
    session.rollback()
    session.info.pop(_ONCE_COMMITTED, None)
    session.info.pop(_WAKE, None)
    session.info.pop(_OUTGOING, None)


def once_committed(session: Session, act: Callable[[], None]) -> None:
    """Call ``act`` when the session's transaction has committed, and not at all when it does not: for counting."""
    session.info.setdefault(_ONCE_COMMITTED, []).append(act)


@sa.event.listens_for(Session, "after_commit")
def _act_once_committed(session: Session) -> None:
    for act in session.info.pop(_ONCE_COMMITTED, ()):
        act()


def wait_for_notify(connection: Any, *, seconds: float) -> bool:
    """Wait on a raw autocommit connection that listens, until it is notified or ``seconds`` have passed.

    Return whether it was notified.
    """
    # One that came along with the answer to an earlier statement has left the socket already.
    readable, _, _ = select.select([connection], [], [], 0 if connection.notifies else seconds)
    if readable:
        with budget.interrupted_after(_STATEMENT_SECONDS, "reading a notification"):
            connection.poll()
    notified = bool(connection.notifies)
    connection.notifies.clear()
    return notified


def address(url: str) -> sa.URL:
    """Return ``url`` with its driver named: for a plain ``postgresql://`` SQLAlchemy 2.1 takes one we do not use."""
    return sa.make_url(url).set(drivername="postgresql+psycopg2")


def connection_arguments(url: sa.URL, *, application: str) -> dict[str, Any]:
    """Return psycopg2's arguments for ``url``, with the limits every connection of ours carries."""
    settings = {
        "idle_in_transaction_session_timeout": "5s",
        "lock_timeout": "4s",
        # What is looked up is in memory or on a disk without heads: the default of 4 reads whole tables for 100 rows.
        "random_page_cost": "1.1",
        "timezone": "UTC",
    }
    return {
        "host": url.host,
        "port": url.port or 5432,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
        "application_name": application,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        **dict(url.query),
    }


def is_unavailable(error: BaseException) -> bool:
    """Tell whether ``error`` says "not now" rather than "never": unreachable, frozen, overloaded, or a lost race.

    Such an error is no attempt: the same work will succeed once the cause is gone.
    """
    if isinstance(error, budget.TimeLimitExceeded | PoolTimeoutError):
        return True
    original = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, psycopg2.Error):
        return False
    code = getattr(original, "pgcode", None)
    if code is None:
        return isinstance(original, psycopg2.OperationalError | psycopg2.InterfaceError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
    # 08 connection, 40 rollback (deadlock, serialization), 53 resources, 57P server going down, 55P03 lock timeout
    return code[:2] in {"08", "40", "53"} or code in {"57P01", "57P02", "57P03", "57P05", "55P03", "25P03"}


def _id_of(item: Event) -> str:
    if item.meta is None:
        raise ValueError(f"{type(item).__name__} has no id, by which it could be told from the same event sent again")
    return item.meta.id


def _with_causes(caused: Sequence[Event], causes: Sequence[Event]) -> list[Event]:
    """Give each event without meta that of its cause: the one about the same job, else the only one there is."""
    by_job = {getattr(cause, "job_id", None): cause for cause in causes}
    only = causes[0] if len(causes) == 1 else None

    def inherit(item: Event) -> Event:
        cause = by_job.get(getattr(item, "job_id", None)) or only
        return item if item.meta or cause is None else events.with_meta(item, events.caused_by(cause))

    return [inherit(item) for item in caused]


def _meta_from_context() -> events.Meta:
    correlation_id, causation_id = logs.correlation()
    return events.correlated(correlation_id, causation_id=causation_id)
