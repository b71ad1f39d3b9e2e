"""Reads of one tick are one query, and nobody suffers for another's."""

import asyncio
from typing import Any

import pytest

from services.chassis import loader as loader_module
from services.chassis.db import Database, DatabaseAway
from services.chassis.loader import Loader

SQL = "select * from number where n = any($1::int[])"


@pytest.fixture
async def counted(db: Database, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The ids of each query."""
    await db.execute("create table number (n int primary key, note text)")
    await db.execute("insert into number select n, 'note ' || n from generate_series(1, 1000) n")
    queries: list[list[Any]] = []
    fetch = db.fetch

    async def counting(sql: str, ids: list[Any]) -> Any:
        queries.append(ids)
        return await fetch(sql, ids)

    monkeypatch.setattr(db, "fetch", counting)
    return queries


async def test_reads_of_one_tick_are_one_query(db: Database, counted: list[list[Any]]) -> None:
    loader = Loader(db, SQL, "n")
    rows = await asyncio.gather(*(loader.load(n) for n in (1, 2, 2, 5000)))
    assert [row and row["note"] for row in rows] == ["note 1", "note 2", "note 2", None]
    assert [sorted(ids) for ids in counted] == [[1, 2, 5000]]


async def test_a_query_is_bounded(
    db: Database, counted: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "BATCH_MAX", 10)
    loader = Loader(db, SQL, "n")
    rows = await asyncio.gather(*(loader.load(n) for n in range(1, 26)))
    assert [row["n"] for row in rows] == list(range(1, 26))
    assert [len(ids) for ids in counted] == [10, 10, 5]


async def test_an_id_that_spoils_the_query_spoils_only_its_own_read(
    db: Database, counted: list[list[Any]]
) -> None:
    loader = Loader(db, SQL, "n")
    reads = loader.load(1), loader.load("one")
    outcomes: Any = await asyncio.gather(*reads, return_exceptions=True)
    assert outcomes[0]["note"] == "note 1"
    assert isinstance(outcomes[1], Exception)


async def test_a_reader_that_is_cancelled_leaves_the_others_alone(
    db: Database, counted: list[list[Any]]
) -> None:
    loader = Loader(db, SQL, "n")
    first, second = asyncio.create_task(loader.load(1)), asyncio.create_task(loader.load(1))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)["n"] == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_each_reader_gets_an_error_of_its_own(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(sql: str, ids: list[Any]) -> Any:
        raise DatabaseAway

    monkeypatch.setattr(db, "fetch", away)
    loader = Loader(db, SQL, "n")
    errors = await asyncio.gather(loader.load(1), loader.load(1), loader.load(2), return_exceptions=True)
    assert [type(error) for error in errors] == [DatabaseAway] * 3
    assert len(set(map(id, errors))) == 3
