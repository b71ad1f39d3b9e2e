"""One PostgreSQL database of a service: transactions, single statements, and who may run what alone.

Two small pools share one budget: sessions (SQLAlchemy) for what has rules, bare asyncpg connections for
hot paths. A connection goes back as it is, without a reset; so `set local`, never `set`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import exc as sa_errors
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from services.chassis.clock import Clock
from services.chassis.errors import Aborted, Refusal, Unavailable
from services.chassis.lease import Leases
from services.chassis.migrate import migrate

T = TypeVar("T")
Tx = AsyncSession  # An open transaction: commits when its block ends, rolls back on any error.
Run = Callable[..., Awaitable[Any]]  # (sql, *args) -> the first column of the first row.

POOL_MAX = 8  # Connections of one service in one process; PostgreSQL serves a few busy ones best.
POOL_WAIT_S_MAX = 5.0  # Waiting longer for a connection helps nobody; the caller may try elsewhere.
CONNECT_S_MAX = 5.0
ATTEMPTS_MAX = 4  # Runs of a serializable transaction; each lost race waits about twice as long.
RETRY_S = 0.01
SERVER_SETTINGS = {
    "application_name": "weft",
    "jit": "off",  # Short statements; compiling costs more than it gives.
    "random_page_cost": "1.1",  # Of memory and solid disks; at 4 whole tables are read past good indexes.
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",  # A stalled writer holds back the relay no longer.
}

BUILT_IN_OID_MAX = 16_383  # Types up to it are PostgreSQL's own, the same in each database of its version.

Begun = Callable[["Database", Run], Awaitable[None]]

# Called by every transaction right after it began; a claim made there commits with the transaction.
on_begin: ContextVar[Begun | None] = ContextVar("on_begin", default=None)


class DatabaseBusy(Unavailable):
    """The database has no room for this call now."""


class DatabaseAway(Unavailable):
    """The database cannot be reached."""


class Conflict(Aborted):
    """Another transaction got in the way; nothing was changed."""


READ_ONLY = "25006"  # Of a server that is the primary no more; another one is, or will be.
BY_STATE = {
    **{"40001": Conflict, "40P01": Conflict, "55P03": DatabaseBusy, "53300": DatabaseBusy},
    READ_ONLY: DatabaseAway,
    **dict.fromkeys(("53100", "58030"), DatabaseAway),  # Its disk is full, or fails.
}
# The last is what asyncpg says when its server dies in the middle of an operation.
DRIVER = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    sa_errors.SQLAlchemyError,
    asyncpg.InternalClientError,
)
AWAY_STATES = ("08", "57P01", "57P02", "57P03")


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that knows its database, and what to call after its transaction commits."""

    __slots__ = ("after", "db")
    db: "Database"
    after: dict[Callable[[], None], None]

    async def _introspect_types(
        self,
        typeoids: Iterable[int],
        timeout: float,  # noqa: ASYNC109 - as asyncpg has it
    ) -> tuple[Any, Any]:
        """asyncpg's own, but what PostgreSQL's types are is asked once a process, not by each connection."""
        key = self.get_server_version().major, frozenset(typeoids)
        if key in _built_in:
            return _built_in[key], _NOTHING_ASKED
        found, asked = await super()._introspect_types(typeoids, timeout)
        if max(typeoids) <= BUILT_IN_OID_MAX:
            _built_in[key] = found
        return found, asked


# By version and ids: as many as our statements have combinations of types.
_built_in: dict[tuple[int, frozenset[int]], Any] = {}
_NOTHING_ASKED = SimpleNamespace(name="none")  # In place of the statement that would have asked.


AnyTx = Tx | Connection


class Database:
    """The pools are empty until they are used."""

    def __init__(self, url: str, *, pool_max: int = POOL_MAX, clock: Clock | None = None) -> None:
        self.url, self.clock = url, clock or Clock()
        sessions = max(1, pool_max // 2)
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._reconnect,
            pool_size=sessions,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S_MAX,
            pool_use_lifo=True,
        )
        listen(self._engine.sync_engine, "checkout", _must_live)
        listen(self._engine.sync_engine, "handle_error", _must_write)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, info={"db": self})
        self._free: list[Connection] = []
        self._room = asyncio.Semaphore(max(1, pool_max - sessions))
        self.background = asyncio.Semaphore(max(1, sessions // 2))  # Handlers leave room for calls.
        self.leases = Leases(self.dedicated)
        self._emit_listeners: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Connects once. Raises OSError while the server is away or still starting."""
        try:
            connection = await self._connect()
        except (asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched) as error:
            raise ConnectionError(str(error)) from error  # It starts, or none of several is the primary yet.
        self._free.append(connection)

    async def close(self) -> None:
        await self.leases.close()
        while self._free:
            await self._free.pop().close(timeout=CONNECT_S_MAX)
        await self._engine.dispose()

    async def dedicated(self, **server_settings: str) -> Connection:
        """A connection outside the pools; the caller closes it."""
        return await self._connect(**server_settings)

    async def _connect(self, **server_settings: str) -> Connection:
        connection: Connection = await asyncpg.connect(
            self.url,
            connection_class=Connection,
            timeout=CONNECT_S_MAX,
            server_settings=SERVER_SETTINGS | server_settings,
        )
        connection.db, connection.after = self, {}
        return connection

    async def migrate(self, *folders: Path) -> None:
        """Applies what is new in each folder of numbered .sql files."""
        connection = await self._connect(statement_timeout="0", lock_timeout="0")
        try:
            await migrate(connection, *folders)
        finally:
            await connection.close()

    @asynccontextmanager
    async def transaction(self, isolation: str | None = None) -> AsyncIterator[Tx]:
        """Commits at the end of the block. Raises DatabaseBusy, DatabaseAway, Conflict."""
        after: dict[Callable[[], None], None] = {}
        with translating():
            async with self._sessions.begin() as tx:
                tx.info["after_commit"] = after
                if isolation:
                    await tx.connection(execution_options={"isolation_level": isolation})
                if begun := on_begin.get():
                    await begun(self, lambda sql, *args: _scalar(tx, sql, args))
                yield tx
        for callback in after:
            callback()

    @asynccontextmanager
    async def fast(self) -> AsyncIterator[Connection]:
        """As `transaction`, without SQLAlchemy."""
        async with self._borrowed() as connection:
            connection.after.clear()
            async with connection.transaction():
                if begun := on_begin.get():
                    await begun(self, connection.fetchval)
                yield connection
            callbacks = list(connection.after)
        for callback in callbacks:
            callback()

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """Rows of one statement, which commits by itself; prepared once for each connection."""
        async with self._borrowed() as connection:
            rows: list[Any] = await connection.fetch(sql, *args)
            return rows

    async def search(self, sql: str, *args: Any) -> list[Any]:
        """The same, planned for these very values: where they decide which index is the right one.

        After five times PostgreSQL may plan a prepared statement for any values at all, and then it takes a
        word that everything has for one that is rare.
        """
        async with self._borrowed() as connection:
            statement = await connection.prepare(sql)
            rows: list[Any] = await statement.fetch(*args)
            return rows

    async def fetchrow(self, sql: str, *args: Any) -> Any:
        async with self._borrowed() as connection:
            return await connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        async with self._borrowed() as connection:
            return await connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        async with self._borrowed() as connection:
            done: str = await connection.execute(sql, *args)
            return done

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        """A connection of the free list; one whose state is unknown is not given back."""
        await self._enter()
        try:
            with translating():
                connection = self._take() or await self._reconnect()
                try:
                    yield connection
                except asyncio.CancelledError:
                    # A BEGIN that was interrupted may have begun all the same: what the next one wrote
                    # would be in a transaction that nobody commits.
                    connection.terminate()
                    raise
                except asyncpg.ReadOnlySQLTransactionError:
                    connection.terminate()  # The next one is made to whoever is the primary now.
                    raise
                finally:
                    self._give(connection)
        finally:
            self._room.release()

    async def _enter(self) -> None:
        if not self._room.locked():
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout(POOL_WAIT_S_MAX):
                await self._room.acquire()
        except TimeoutError:
            raise DatabaseBusy from None

    def _take(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _reconnect(self) -> Connection:
        try:
            return await self._connect()
        except OSError as error:
            raise DatabaseAway from error

    def _give(self, connection: Connection) -> None:
        if connection.is_closed():
            return
        if connection.is_in_transaction():
            connection.terminate()
        else:
            self._free.append(connection)

    def on_emit(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after each commit in this process that wrote events."""
        self._emit_listeners.append(listener)

    def emitted(self) -> None:
        for listener in self._emit_listeners:
            listener()


def _must_live(connection: Any, *_: Any) -> None:
    """The pool replaces a connection that ended while it lay there, and nobody hears of it."""
    if connection.driver_connection.is_closed():
        raise sa_errors.DisconnectionError


def _must_write(context: Any) -> None:
    """A connection to a server that is the primary no more is as good as lost."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


async def _scalar(tx: Tx, sql: str, args: tuple[Any, ...]) -> Any:
    return (await (await tx.connection()).exec_driver_sql(sql, args)).scalar()


async def execute(tx: AnyTx, sql: str, *args: Any) -> None:
    """Runs a statement of PostgreSQL's own SQL ($1, $2 …) in either kind of transaction."""
    if isinstance(tx, AsyncSession):
        await (await tx.connection()).exec_driver_sql(sql, args)
    else:
        await tx.execute(sql, *args)


async def fetch(tx: AnyTx, sql: str, *args: Any) -> Sequence[Any]:
    """As `execute`, for rows."""
    if isinstance(tx, AsyncSession):
        result = await (await tx.connection()).exec_driver_sql(sql, args)
        rows: Sequence[Any] = result.mappings().all()
        return rows
    fetched: Sequence[Any] = await tx.fetch(sql, *args)
    return fetched


def database_of(tx: AnyTx) -> Database:
    db: Database = tx.info["db"] if isinstance(tx, AsyncSession) else tx.db
    return db


def after_commit(tx: AnyTx, callback: Callable[[], None]) -> None:
    """Calls `callback` once if and when `tx` has committed; it must not raise."""
    after = tx.info["after_commit"] if isinstance(tx, AsyncSession) else tx.after
    after[callback] = None


async def transact(
    db: Database,
    fn: Callable[[Tx], Awaitable[T]],
    attempts: int = ATTEMPTS_MAX,
    isolation: str = "SERIALIZABLE",
) -> T:
    """What `fn` returns; runs it again, in a new transaction, after each lost race. Raises Conflict."""
    for attempt in range(1, attempts + 1):
        try:
            async with db.transaction(isolation) as tx:
                return await fn(tx)
        except Conflict:
            if attempt == attempts:
                raise
            await asyncio.sleep(random.uniform(0, RETRY_S * 2**attempt))
    raise AssertionError("attempts must be positive")


async def insert_many(
    tx: AnyTx, table: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]
) -> None:
    """Writes all rows by one statement. `columns` are (name, PostgreSQL type): of code, never of input."""
    names = ", ".join(name for name, _ in columns)
    arrays = ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(columns, 1))
    sql = f"insert into {table} ({names}) select * from unnest({arrays})"
    await execute(tx, sql, *([row[n] for row in rows] for n in range(len(columns))))


@contextmanager
def translating() -> Iterator[None]:
    """Turns the driver's errors that a caller can act on into refusals; others are bugs and pass."""
    try:
        yield
    except DRIVER as error:
        if refusal := _refusal(error):
            raise refusal from error
        raise


def _refusal(error: BaseException) -> Refusal | None:
    if isinstance(error, asyncpg.InternalClientError):
        return DatabaseAway()
    if isinstance(error, sa_errors.TimeoutError):
        return DatabaseBusy()
    if isinstance(error, sa_errors.DBAPIError):
        if error.connection_invalidated:
            return DatabaseAway()
        error = error.orig or error
    state = str(getattr(error, "sqlstate", None) or "")
    if state in BY_STATE:
        return BY_STATE[state]()
    lost = isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
    return DatabaseAway() if lost or state.startswith(AWAY_STATES) else None
