"""Transactions commit or do not; trouble has a name that callers can act on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.chassis import db as db_module
from services.chassis.db import (
    Conflict,
    Connection,
    Database,
    DatabaseAway,
    DatabaseBusy,
    Tx,
    after_commit,
    execute,
    fetch,
    insert_many,
    on_begin,
    transact,
)
from services.chassis.migrate import MigrationChanged
from tests.chassis.waiting import until
from tests.servers import Server, start_postgres


@pytest.fixture
async def numbers(db: Database) -> Database:
    await db.execute("create table number (n int primary key, note text)")
    return db


@pytest.fixture
def mortal() -> Iterator[Server]:
    """A server that a test may kill."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        server = start_postgres(Path(folder) / "postgres")
        yield server
        server.kill()


async def test_a_connection_to_a_server_that_is_read_only_by_now_is_not_used_again(numbers: Database) -> None:
    """As after a change of the primary: the next connection leads to the new one."""
    demoted = "select set_config('default_transaction_read_only', 'on', false)"
    await numbers.fetchval(demoted)
    with pytest.raises(DatabaseAway):
        await numbers.execute("insert into number values (1)")
    await numbers.execute("insert into number values (1)")
    async with numbers.transaction() as tx:
        await execute(tx, demoted)
    with pytest.raises(DatabaseAway):
        async with numbers.transaction() as tx:
            await execute(tx, "insert into number values (2)")
    async with numbers.transaction() as tx:
        await execute(tx, "insert into number values (2)")
    assert await total(numbers) == 2


async def total(db: Database) -> int:
    value: int = await db.fetchval("select count(*)::int from number")
    return value


@pytest.mark.parametrize("kind", ["transaction", "fast"])
async def test_an_error_in_the_block_leaves_nothing_behind(numbers: Database, kind: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with getattr(numbers, kind)() as tx:
            await execute(tx, "insert into number values (1)")
            raise ZeroDivisionError
    assert await total(numbers) == 0
    async with getattr(numbers, kind)() as tx:
        await execute(tx, "insert into number values (1)")
    assert await total(numbers) == 1


@pytest.mark.parametrize("kind", ["transaction", "fast"])
async def test_after_commit_is_called_once_and_only_after_a_commit(numbers: Database, kind: str) -> None:
    called: list[int] = []

    def callback() -> None:
        called.append(1)

    with pytest.raises(ZeroDivisionError):
        async with getattr(numbers, kind)() as tx:
            after_commit(tx, callback)
            raise ZeroDivisionError
    async with getattr(numbers, kind)() as tx:
        after_commit(tx, callback)
        after_commit(tx, callback)
        assert not called
    assert called == [1]


@pytest.mark.parametrize("kind", ["transaction", "fast"])
async def test_what_is_done_on_begin_commits_with_the_transaction(numbers: Database, kind: str) -> None:
    async def claim(db: Database, run: Any) -> None:
        assert db is numbers
        assert await run("insert into number values ($1) returning n", 7) == 7

    mark = on_begin.set(claim)
    try:
        with pytest.raises(ZeroDivisionError):
            async with getattr(numbers, kind)():
                raise ZeroDivisionError
        assert await total(numbers) == 0
        async with getattr(numbers, kind)():
            pass
    finally:
        on_begin.reset(mark)
    assert await total(numbers) == 1


async def test_serializable_races_are_run_again_until_all_have_won(numbers: Database) -> None:
    async def add_one(tx: Tx) -> None:
        rows = await fetch(tx, "select count(*)::int as n from number")
        await execute(tx, "insert into number values ($1)", rows[0]["n"])

    await asyncio.gather(*(transact(numbers, add_one, attempts=30) for _ in range(6)))
    assert await total(numbers) == 6


async def test_a_deadlock_is_a_conflict(numbers: Database) -> None:
    await numbers.execute("insert into number values (1), (2)")
    reached = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with numbers.fast() as tx:
            await tx.execute("select from number where n = $1 for update", first)
            await reached.wait()
            await tx.execute("select from number where n = $1 for update", second)

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]


@pytest.mark.parametrize("kind", ["transaction", "fast"])
async def test_waiting_for_a_connection_is_bounded(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(db_module, "POOL_WAIT_S_MAX", 0.05)
    small = Database(fresh_database, pool_max=2)
    async with small.transaction() as tx, small.fast():
        await execute(tx, "select 1")
        with pytest.raises(DatabaseBusy):
            async with getattr(small, kind)() as another:
                await execute(another, "select 1")
    await small.close()


async def test_a_connection_is_given_back_by_whoever_is_cancelled(fresh_database: str) -> None:
    small = Database(fresh_database, pool_max=2)
    for _ in range(5):
        waiting = asyncio.create_task(small.fetchval("select pg_sleep(60)"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await small.fetchval("select 1") == 1
    await small.close()


async def test_a_lost_server_is_away_and_its_return_is_noticed(mortal: Server) -> None:
    db = Database(mortal.url)
    await db.open()
    async with db.transaction() as one, db.transaction() as other:
        await execute(one, "select 1")
        await execute(other, "select 1")
    mortal.kill()
    with pytest.raises(DatabaseAway):
        await db.fetchval("select 1")
    with pytest.raises(DatabaseAway):
        async with db.transaction() as tx:
            await execute(tx, "select 1")
    mortal.process = start_postgres(mortal.folder).process
    assert await db.fetchval("select 1") == 1
    async with db.transaction() as one, db.transaction() as other:
        await execute(one, "select 1")
        await execute(other, "select 1")
    await db.close()


@pytest.mark.parametrize("state", ["53100", "58030"])
async def test_a_disk_that_takes_nothing_is_no_bug(db: Database, state: str) -> None:
    full = f"do $$ begin raise exception using errcode = '{state}'; end $$"
    with pytest.raises(DatabaseAway):
        await db.execute(full)
    with pytest.raises(DatabaseAway):
        async with db.transaction() as tx:
            await execute(tx, full)


async def test_a_bug_in_a_statement_is_no_refusal(db: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await db.fetch("select * from nowhere")


@pytest.mark.parametrize("kind", ["transaction", "fast"])
async def test_many_rows_are_one_statement(numbers: Database, kind: str) -> None:
    async with getattr(numbers, kind)() as tx:
        rows = [(n, None if n % 2 else f"'; drop table number; -- {n}") for n in range(1000)]
        await insert_many(tx, "number", [("n", "int"), ("note", "text")], rows)
    assert await numbers.fetchval("select count(note)::int from number") == 500


async def test_migrations_run_once_in_order_and_never_change(db: Database, tmp_path: Path) -> None:
    folder = tmp_path / "thing" / "migrations"
    folder.mkdir(parents=True)
    (folder / "0002_more.sql").write_text("alter table thing add column b int")
    (folder / "0001_thing.sql").write_text("create table thing (a int); insert into thing values (1)")
    await asyncio.gather(*(db.migrate(folder) for _ in range(3)))
    assert await db.fetchval("select count(*)::int from thing") == 1
    (folder / "0003_bad.sql").write_text("insert into thing values (2); select 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await db.migrate(folder)
    assert await db.fetchval("select count(*)::int from thing") == 1
    (folder / "0003_bad.sql").unlink()
    (folder / "0001_thing.sql").write_text("create table thing (a bigint)")
    with pytest.raises(MigrationChanged, match=r"thing/0001_thing\.sql"):
        await db.migrate(folder)


async def test_a_connection_left_in_a_transaction_is_not_used_again(db: Database) -> None:
    async with db._borrowed() as connection:
        assert isinstance(connection, Connection)
        await connection.execute("begin")
    async with db._borrowed() as another:
        assert another is not connection
        assert not another.is_in_transaction()


async def test_conflicts_say_that_nothing_was_changed() -> None:
    assert "nothing was changed" in str(Conflict())


async def test_connections_that_ended_while_idle_are_replaced_and_nobody_notices(
    db: Database, fresh_database: str
) -> None:
    async with db.transaction() as one, db.transaction() as other, db.fast() as third:
        for tx in (one, other, third):
            await execute(tx, "select 1")
    admin = await asyncpg.connect(fresh_database)
    others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    await admin.execute(f"select pg_terminate_backend(pid) {others}")
    await until(lambda: admin.fetchval(f"select count(*) = 0 {others}"))
    await admin.close()
    assert await db.fetchval("select 1") == 1
    async with db.transaction() as one, db.transaction() as other:
        await execute(one, "select 1")
        await execute(other, "select 1")


async def test_what_is_written_after_a_cancellation_is_there(numbers: Database) -> None:
    async def look() -> None:
        async with numbers.fast() as tx:
            await tx.execute("select 1")

    for n in range(1, 121):
        looking = asyncio.create_task(look())
        for _ in range(n % 12):  # Cancelled at each of its steps, BEGIN among them.
            await asyncio.sleep(0)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await numbers.execute("insert into number values ($1)", n)
        async with numbers.fast() as tx:
            await tx.execute("insert into number values ($1)", -n)
    assert await total(numbers) == 240


async def test_what_postgresqls_types_are_is_asked_by_one_connection_for_all(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ask = asyncpg.Connection._introspect_types

    async def count(self: Any, typeoids: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - as asyncpg has it
        asked.append(set(typeoids))
        return await ask(self, typeoids, timeout)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", count)
    monkeypatch.setattr(db_module, "_built_in", {})
    await db.execute("create type mood as enum ('glad', 'sad')")
    one = uuid4()
    for _ in range(3):
        connection = await db.dedicated()
        assert await connection.fetchval("select $1::uuid[]", [one]) == [one]
        assert await connection.fetchval("select array[$1]::mood[]", "sad") == ["sad"]
        await connection.close()
    built_in = [types for types in asked if max(types) <= db_module.BUILT_IN_OID_MAX]
    assert (len(built_in), len(asked) - len(built_in)) == (1, 3)  # Our own type may be another elsewhere.
