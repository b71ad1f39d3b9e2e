"""What happened: written in the transaction that made it true, and read by relay, audit and store alike.

An event is a protobuf message marked `(weft.options.v1.event)`. Its key orders it: events of one key are
published in the order in which they were written, provided that their writers exclude each other (a row
lock or an expected version, taken before the event is written).
"""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, Database, after_commit, database_of, fetch
from weft.options.v1 import options_pb2

PAYLOAD_BYTES_MAX = 64 * 1024  # An event is a fact, not a document; a relay holds 500 of them.

COLUMNS = """id, type, key, subject, actor, acting, trace, causation, at, version, schema_version, payload,
    position, stream"""

INSERT = """
insert into event (id, type, key, subject, actor, acting, trace, causation, at, stream, version,
    schema_version, payload)
select id, type, key, subject, $1::text, $2::text, $3::text, $4::uuid, $5::timestamptz, $6::text, version,
    schema_version, payload
from unnest($7::uuid[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::int[], $13::bytea[])
    with ordinality as new (id, type, key, subject, version, schema_version, payload, n)
order by n
returning position
"""
INSERT_MIXED = """
insert into event (id, type, key, subject, actor, acting, trace, causation, at, stream, version,
    schema_version, payload)
select id, type, key, subject, actor, acting, trace, causation, at, stream, version, schema_version, payload
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::int[], $7::bytea[],
    $8::text[], $9::text[], $10::text[], $11::uuid[], $12::timestamptz[], $13::text[])
    with ordinality as new (id, type, key, subject, version, schema_version, payload,
        actor, acting, trace, causation, at, stream, n)
order by n
returning position
"""
WRITERS = """
select array_agg(virtualtransaction) from pg_locks
where locktype = 'relation' and relation = 'event'::regclass and mode = 'RowExclusiveLock' and granted
    and database = (select oid from pg_database where datname = current_database())
"""
SETTLE_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who did it, and because of what."""

    actor: str  # The caller: a subject, or a service.
    acting: str = ""  # Who impersonates the actor.
    trace: str = ""
    causation: UUID | None = None  # The event that led to this one.


provenance: ContextVar[Provenance] = ContextVar("provenance", default=Provenance(actor="system"))  # noqa: B039


def proven(actor: str) -> None:
    """From here on the call is `actor`'s: it came anonymous, and has proven who it is."""
    came = provenance.get()
    if came.actor == "anonymous":
        provenance.set(replace(came, actor=actor))


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event and all that is known about it."""

    id: UUID
    type: str  # Full name of the message: weft.inventory.v1.StockReserved.
    key: str
    subject: str  # The person it is about; empty: nobody.
    actor: str
    acting: str
    trace: str
    causation: UUID | None
    at: datetime
    version: int | None  # Of the aggregate; None outside an event store.
    schema_version: int
    payload: bytes
    position: int  # In the producer's event table; rises, may skip.
    stream: str | None = None  # The kind of aggregate; None outside an event store.

    @property
    def service(self) -> str:
        """The producer."""
        return self.type.split(".")[1]


class EventTooLarge(ValueError):
    """An event exceeds PAYLOAD_BYTES_MAX: a bug, for its contract must bound it."""


class NotAnEvent(TypeError):
    """A message without the option (weft.options.v1.event) was emitted: a bug."""


@cache
def _fields(descriptor: Descriptor) -> tuple[str, str]:
    """Names of the fields that hold the key and the subject; empty where there is none."""
    options = descriptor.GetOptions()
    if not options.HasExtension(options_pb2.event):
        raise NotAnEvent(descriptor.full_name)
    event = options.Extensions[options_pb2.event]
    return event.key, event.subject


def key_of(message: Message) -> str:
    name, _ = _fields(message.DESCRIPTOR)
    return str(getattr(message, name)) if name else ""


def subject_of(message: Message) -> str:
    _, name = _fields(message.DESCRIPTOR)
    return str(getattr(message, name)) if name else ""


async def emit(tx: AnyTx, *messages: Message, key: str | None = None) -> list[Envelope]:
    """Writes the events; they are published if and when `tx` commits. Returns their envelopes."""
    now = database_of(tx).clock.now()
    made = [announcement(message, uuid7(now), now) for message in messages]
    return await write(tx, made if key is None else [replace(event, key=key) for event in made])


async def write(tx: AnyTx, events: Sequence[Envelope]) -> list[Envelope]:
    """Adds the events to the table. Returns them with their positions."""
    for event in events:
        if len(event.payload) > PAYLOAD_BYTES_MAX:
            raise EventTooLarge(event.type)
    if not events:
        return []
    columns = map(list, zip(*(_row(event) for event in events), strict=True))
    causes = [_cause(event) for event in events]
    if any(cause != causes[0] for cause in causes):
        rows = await fetch(tx, INSERT_MIXED, *columns, *map(list, zip(*causes, strict=True)))
    else:
        rows = await fetch(tx, INSERT, *causes[0], *columns)
    after_commit(tx, database_of(tx).emitted)
    return [replace(event, position=row["position"]) for event, row in zip(events, rows, strict=True)]


def _row(event: Envelope) -> tuple[Any, ...]:
    """What differs between events of one cause."""
    about = (event.id, event.type, event.key, event.subject)
    return (*about, event.version, event.schema_version, event.payload)


def _cause(event: Envelope) -> tuple[Any, ...]:
    """What is the same for events of one moment and cause, unless many callers share a transaction."""
    return (event.actor, event.acting, event.trace, event.causation, event.at, event.stream)


async def settle(db: Database) -> None:
    """Waits until every transaction that is writing events now has ended.

    Who has taken a position holds the table's lock until its end; so afterwards every position that was
    taken before is either visible or will never be.
    """
    writers = set(await db.fetchval(WRITERS) or ())
    while writers:
        await asyncio.sleep(SETTLE_POLL_S)
        writers &= set(await db.fetchval(WRITERS) or ())


_schemas: dict[str, int] = {}


def schema_of(type_name: str) -> int:
    """The schema version in which events of this type are written now."""
    return _schemas.get(type_name, 1)


def declare_schema(type_name: str, version: int) -> None:
    """Events of this type are written as `version` from now on; older ones are upcast when read."""
    _schemas[type_name] = max(version, schema_of(type_name))


def announcement(message: Message, event_id: UUID, at: datetime) -> Envelope:
    """The event that `message` is, caused by whatever is being done; no table holds it yet."""
    name, came = message.DESCRIPTOR.full_name, provenance.get()
    return Envelope(
        id=event_id,
        type=name,
        key=key_of(message),
        subject=subject_of(message),
        actor=came.actor,
        acting=came.acting,
        trace=came.trace,
        causation=came.causation,
        at=at,
        version=None,
        schema_version=schema_of(name),
        payload=message.SerializeToString(),
        position=0,
    )


def envelope(row: Any) -> Envelope:
    """From a row with COLUMNS."""
    return Envelope(**dict(row))
