"""An aggregate is the fold of its events; of two who decide on one version, one wins."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.json_format import MessageToDict

from services.chassis import event_store, events
from services.chassis.clock import uuid7
from services.chassis.db import Database
from services.chassis.event_store import (
    Snapshots,
    VersionConflict,
    append,
    append_all,
    decode,
    load,
    load_all,
    lock,
    upcaster,
)
from services.chassis.events import Envelope, announcement
from tests.chassis.demo import Counted, Happened

GOLDEN = Path(__file__).parent / "golden"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def total(state: int, event: Any, envelope: Envelope) -> int:
    return state + int(event.units)


SNAPSHOTS = Snapshots(dump=lambda n: str(n).encode(), load=int, every=10)


async def add(db: Database, units: int, expected: int, ids: Any = ()) -> int:
    async with db.fast() as tx:
        return await append(tx, "tally", "a", expected, [Counted(thing="a", units=units)], ids)


async def test_state_is_the_fold_of_what_was_appended(db: Database) -> None:
    assert await load(db, "tally", "a", total, 0) == (0, 0)
    for n in range(5):
        assert await add(db, n, n) == n + 1
    async with db.transaction() as tx:
        assert await append(tx, "tally", "b", 0, [Counted(units=7), Counted(units=8)]) == 2
        assert await load(tx, "tally", "b", total, 0) == (15, 2)
    assert await load(db, "tally", "a", total, 0) == (10, 5)


async def test_of_many_appends_to_one_version_exactly_one_wins(db: Database) -> None:
    outcomes = await asyncio.gather(*(add(db, 1, 0) for _ in range(12)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["VersionConflict"] * 11 + ["int"]
    assert await load(db, "tally", "a", total, 0) == (1, 1)


async def test_an_append_retried_with_the_same_ids_has_the_same_result(db: Database) -> None:
    ids = [uuid7()]
    assert await add(db, 1, 0, ids) == 1
    await add(db, 5, 1)
    assert await add(db, 1, 0, ids) == 1
    assert await load(db, "tally", "a", total, 0) == (6, 2)
    with pytest.raises(VersionConflict) as refused:
        await add(db, 1, 0, [uuid7()])
    assert refused.value.facts == {"kind": "tally", "key": "a", "version": "2", "expected": "0"}


async def test_a_version_that_skips_is_refused(db: Database) -> None:
    with pytest.raises(VersionConflict):
        await add(db, 1, 3)


async def test_snapshots_change_the_cost_and_never_the_state(db: Database) -> None:
    for n in range(25):
        await add(db, n, n)
        assert await load(db, "tally", "a", total, 0, SNAPSHOTS) == (n * (n + 1) // 2, n + 1)
    assert await db.fetchval("select version from snapshot") == 20
    folded = 0

    def counting(state: int, event: Any, envelope: Envelope) -> int:
        nonlocal folded
        folded += 1
        return total(state, event, envelope)

    assert await load(db, "tally", "a", counting, 0, SNAPSHOTS) == (300, 25)
    assert folded == 5
    changed = Snapshots(SNAPSHOTS.dump, SNAPSHOTS.load, schema=2, every=10)
    assert await load(db, "tally", "a", counting, 0, changed) == (300, 25)
    assert folded == 30


@pytest.fixture
def upcasters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of this test's own, in which Happened has come to schema 3."""
    monkeypatch.setattr(event_store, "_upcasters", {})
    monkeypatch.setattr(events, "_schemas", {})

    @upcaster("weft.demo.v1.Happened", schema=1)
    def _(old: Any) -> Any:
        old.note = old.note or "none"
        return old

    @upcaster("weft.demo.v1.Happened", schema=2)
    def _(old: Any) -> Any:
        old.units *= 100
        return old


@pytest.mark.usefixtures("upcasters")
@pytest.mark.parametrize("schema", [1, 2, 3])
def test_events_of_every_schema_read_as_they_did_when_they_were_recorded(schema: int) -> None:
    payload = bytes.fromhex((GOLDEN / f"happened_{schema}.hex").read_text().strip())
    event = announcement(Happened(), uuid4(), AT)
    old = Envelope(**{**_fields(event), "payload": payload, "schema_version": schema})
    assert (
        MessageToDict(decode(old))
        == {
            1: {"thing": "a", "note": "none", "units": "500"},
            2: {"thing": "a", "note": "b", "units": "500"},
            3: {"thing": "a", "note": "b", "units": "5"},
        }[schema]
    )


def _fields(event: Envelope) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Envelope.__slots__}


@pytest.mark.usefixtures("upcasters")
async def test_new_events_are_written_in_the_newest_schema(db: Database) -> None:
    async with db.fast() as tx:
        await append(tx, "tally", "h", 0, [Happened(thing="h", units=5)])
    assert await load(db, "tally", "h", total, 0) == (5, 1)
    assert await db.fetchval("select schema_version from event") == 3


def test_an_event_may_have_become_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_store, "_upcasters", {})
    monkeypatch.setattr(events, "_schemas", {})

    @upcaster("weft.demo.v1.Happened", schema=1)
    def _(old: Any) -> Any:
        return Counted(thing=old.thing, units=1)

    event = announcement(Happened(thing="a"), uuid4(), AT)
    old = Envelope(**{**_fields(event), "schema_version": 1})
    assert decode(old) == Counted(thing="a", units=1)


async def test_many_aggregates_are_appended_to_at_once_or_not_at_all(db: Database) -> None:
    async with db.fast() as tx:
        first = {"a": (0, [Counted(units=1), Counted(units=2)]), "b": (0, [Counted(units=5)])}
        written = await append_all(tx, "tally", first)
        assert [(event.key, event.version) for event in written] == [("a", 1), ("a", 2), ("b", 1)]
        assert [event.position for event in written] == sorted(event.position for event in written)
    with pytest.raises(VersionConflict) as refused:
        async with db.transaction() as tx:
            await append_all(tx, "tally", {"a": (2, [Counted(units=9)]), "b": (0, [Counted(units=9)])})
    assert refused.value.facts["key"] == "b"
    async with db.fast() as tx:
        loaded = await load_all(tx, "tally", ["b", "a", "c"], total, int)
    assert loaded == {"a": (3, 2), "b": (5, 1), "c": (0, 0)}


async def test_many_are_loaded_from_their_snapshots_and_what_came_after(db: Database) -> None:
    for n in range(12):
        await add(db, n, n)
    assert await load(db, "tally", "a", total, 0, SNAPSHOTS) == (66, 12)
    await add(db, 4, 12)
    await db.execute("delete from event where version < 11")
    async with db.fast() as tx:
        assert await load_all(tx, "tally", ["a"], total, int, SNAPSHOTS) == {"a": (70, 13)}


async def test_whoever_locks_many_in_any_order_waits_for_nobody_in_a_circle(db: Database) -> None:
    async def locked(keys: list[str]) -> None:
        async with db.fast() as tx:
            await lock(tx, "tally", keys)

    keys = [str(n) for n in range(20)]
    await asyncio.gather(*(locked(keys[n:] + keys[:n]) for n in range(20)))
