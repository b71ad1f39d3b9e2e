"""Aggregates whose state is the fold of their events; the events are rows of the event table.

An aggregate is a kind ("order") and a key; its events are versions 1, 2, 3 … of it. Whoever appends says
which version it decided upon, and loses if another got there first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from services.chassis import db as database
from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, Database
from services.chassis.errors import Aborted
from services.chassis.events import (
    COLUMNS,
    Envelope,
    announcement,
    declare_schema,
    envelope,
    schema_of,
    write,
)

S = TypeVar("S")
Fold = Callable[[S, Message, Envelope], S]

SNAPSHOT_EVERY = 100  # Events; folding that many costs about a millisecond.
LOCK = "select pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 1))"
VERSION = (
    "select coalesce(max(version), 0) as version from event where stream = $1 and key = $2 and version > 0"
)
LOCK_ALL = """
select pg_advisory_xact_lock(hashtextextended($1 || '/' || key, 1))
from (select key from unnest($2::text[]) as key order by hashtextextended($1 || '/' || key, 1)) as sorted
"""
VERSIONS = """
select key, max(version) as version from event
where stream = $1 and key = any($2::text[]) and version > 0 group by key
"""
IDS = """
select id from event where stream = $1 and key = $2 and version > $3 and version <= $4 order by version
"""
EVENTS = f"""
select {COLUMNS} from event where stream = $1 and key = $2 and version > $3 order by version
"""
EVENTS_OF_ALL = f"""
select {COLUMNS} from event join unnest($2::text[], $3::bigint[]) as seen (of_key, seen_version)
    on key = of_key and version > seen_version
where stream = $1 order by key, version
"""
KEEP = """
insert into snapshot (stream, key, version, schema_version, payload) values ($1, $2, $3, $4, $5)
on conflict (stream, key) do update
set version = excluded.version, schema_version = excluded.schema_version, payload = excluded.payload
where snapshot.version < excluded.version or snapshot.schema_version <> excluded.schema_version
"""
SNAPSHOT = """
select version, payload from snapshot where stream = $1 and key = $2 and schema_version = $3
"""
SNAPSHOTS = """
select key, version, payload from snapshot where stream = $1 and key = any($2::text[]) and schema_version = $3
"""


class VersionConflict(Aborted):
    """{kind} {key} is at version {version}, not at {expected}."""


@dataclass(frozen=True)
class Snapshots(Generic[S]):
    """How a state is kept as bytes. A new `schema` makes all older snapshots be ignored."""

    dump: Callable[[S], bytes]
    load: Callable[[bytes], S]
    schema: int = 1
    every: int = SNAPSHOT_EVERY


async def append(
    tx: AnyTx,
    kind: str,
    key: str,
    expected_version: int,
    messages: Sequence[Message],
    ids: Sequence[UUID] = (),
) -> int:
    """Writes the events after `expected_version`; returns the version after them. Raises VersionConflict.

    With the same `ids` as an append that succeeded it changes nothing and returns the same version.
    Appends to one aggregate wait for each other.
    """
    await database.execute(tx, LOCK, kind, key)
    version = (await database.fetch(tx, VERSION, kind, key))[0]["version"]
    after = expected_version + len(messages)
    if version != expected_version:
        rows = await database.fetch(tx, IDS, kind, key, expected_version, after) if ids else ()
        if ids and [row["id"] for row in rows] == list(ids):
            return after
        raise VersionConflict(kind=kind, key=key, version=version, expected=expected_version)
    now = database.database_of(tx).clock.now()
    versions = range(expected_version + 1, after + 1)
    identified = zip(messages, ids or [uuid7(now) for _ in messages], versions, strict=True)
    events = [(announcement(message, event_id, now), version) for message, event_id, version in identified]
    await write(tx, [replace(event, key=key, stream=kind, version=version) for event, version in events])
    return after


async def load(
    source: Database | AnyTx,
    kind: str,
    key: str,
    fold: Fold[S],
    initial: S,
    snapshots: Snapshots[S] | None = None,
) -> tuple[S, int]:
    """The state and its version; (`initial`, 0) for what never was. Leaves a snapshot now and then."""
    if isinstance(source, Database) and snapshots:
        async with source.fast() as tx:
            return await load(tx, kind, key, fold, initial, snapshots)
    fetch = source.fetch if isinstance(source, Database) else partial(database.fetch, source)
    state, version, kept = initial, 0, 0
    if snapshots:
        for row in await fetch(SNAPSHOT, kind, key, snapshots.schema):
            state, version = snapshots.load(row["payload"]), row["version"]
            kept = version
    for row in await fetch(EVENTS, kind, key, version):
        event = envelope(row)
        state, version = fold(state, decode(event), event), event.version or 0
    if snapshots and version - kept >= snapshots.every:
        assert not isinstance(source, Database)
        await database.execute(source, KEEP, kind, key, version, snapshots.schema, snapshots.dump(state))
    return state, version


async def lock(tx: AnyTx, kind: str, keys: Sequence[str]) -> None:
    """Holds the aggregates until `tx` ends: what is loaded after this is what an append finds.

    Always in one order, so that two who lock several do not wait for each other in a circle.
    """
    await database.execute(tx, LOCK_ALL, kind, list(dict.fromkeys(keys)))


async def load_all(
    tx: AnyTx,
    kind: str,
    keys: Sequence[str],
    fold: Fold[S],
    initial: Callable[[], S],
    snapshots: Snapshots[S] | None = None,
) -> dict[str, tuple[S, int]]:
    """As `load` for many keys by two queries; leaves no snapshots. Each key has an entry."""
    states: dict[str, tuple[S, int]] = {}
    if snapshots:
        for row in await database.fetch(tx, SNAPSHOTS, kind, list(keys), snapshots.schema):
            states[row["key"]] = snapshots.load(row["payload"]), row["version"]
    for key in keys:
        states.setdefault(key, (initial(), 0))
    seen = [states[key][1] for key in keys]
    for row in await database.fetch(tx, EVENTS_OF_ALL, kind, list(keys), seen):
        event = envelope(row)
        states[event.key] = fold(states[event.key][0], decode(event), event), event.version or 0
    return states


async def append_all(
    tx: AnyTx, kind: str, changes: Mapping[str, tuple[int, Sequence[Message]]], at: datetime | None = None
) -> list[Envelope]:
    """Appends to many aggregates at once: by key, the expected version and the events after it.

    `at` is when it was decided, now if it is left out. Returns the events as they were written, in the
    order of `changes`. Raises VersionConflict for the first that another was quicker with; then nothing is
    written.
    """
    await lock(tx, kind, list(changes))
    rows = await database.fetch(tx, VERSIONS, kind, list(changes))
    versions = {row["key"]: row["version"] for row in rows}
    now = at or database.database_of(tx).clock.now()
    events = []
    for key, (expected, messages) in changes.items():
        if versions.get(key, 0) != expected:
            raise VersionConflict(kind=kind, key=key, version=versions.get(key, 0), expected=expected)
        for version, message in enumerate(messages, expected + 1):
            event = announcement(message, uuid7(now), now)
            events.append(replace(event, key=key, stream=kind, version=version))
    return await write(tx, events)


Upcaster = Callable[[Message], Message]
_upcasters: dict[tuple[str, int], Upcaster] = {}


def upcaster(type_name: str, schema: int) -> Callable[[Upcaster], Upcaster]:
    """Registers how an event written as `schema` of `type_name` reads as the next schema.

    The function may return another type: then that is what the event means now.
    """

    def register(convert: Upcaster) -> Upcaster:
        assert (type_name, schema) not in _upcasters, "two upcasters for one schema"
        _upcasters[type_name, schema] = convert
        declare_schema(type_name, schema + 1)
        return convert

    return register


def decode(event: Envelope) -> Message:
    """The message as it is understood today. Raises KeyError for a type nobody knows, or DecodeError."""
    kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(event.type))
    message = kind.FromString(event.payload)
    schema = event.schema_version
    while convert := _upcasters.get((message.DESCRIPTOR.full_name, schema)):
        before = message.DESCRIPTOR.full_name
        message = convert(message)
        after = message.DESCRIPTOR.full_name
        schema = schema + 1 if after == before else schema_of(after)
    return message
