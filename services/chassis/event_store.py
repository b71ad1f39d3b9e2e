"""Aggregates whose state is the fold of their events; the events are rows of the event table.

An aggregate is a kind ("order") and a key; its events are versions 1, 2, 3 … of it. Whoever appends says
which version it decided upon, and loses if another got there first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
IDS = """
select id from event where stream = $1 and key = $2 and version > $3 and version <= $4 order by version
"""
EVENTS = f"""
select {COLUMNS} from event where stream = $1 and key = $2 and version > $3 order by version
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
    if isinstance(source, Database):
        async with source.fast() as tx:
            return await load(tx, kind, key, fold, initial, snapshots)
    state, version, kept = initial, 0, 0
    if snapshots:
        for row in await database.fetch(source, SNAPSHOT, kind, key, snapshots.schema):
            state, version = snapshots.load(row["payload"]), row["version"]
            kept = version
    for row in await database.fetch(source, EVENTS, kind, key, version):
        event = envelope(row)
        state, version = fold(state, decode(event), event), event.version or 0
    if snapshots and version - kept >= snapshots.every:
        await database.execute(source, KEEP, kind, key, version, snapshots.schema, snapshots.dump(state))
    return state, version


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
