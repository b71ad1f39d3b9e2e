"""What happened: written in the transaction that made it true, and read by relay, audit and store alike.

An event is a protobuf message marked `(weft.options.v1.event)`. Its key orders it: events of one key are
published in the order in which they were written, provided that their writers exclude each other (a row
lock or an expected version, taken before the event is written).
"""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, Database, after_commit, database_of, execute
from weft.options.v1 import options_pb2

PAYLOAD_BYTES_MAX = 256 * 1024  # NATS takes 1 MiB with headers; an event is a fact, not a document.

COLUMNS = """id, type, key, subject, actor, acting, trace, causation, at, version, schema_version, payload,
    position, stream"""

INSERT = """
insert into event (id, type, key, subject, actor, acting, trace, causation, at, stream, version,
    schema_version, payload)
select id, type, key, subject, $5::text, $6::text, $7::text, $8::uuid, $9::timestamptz, $10::text, version,
    schema_version, payload
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $11::bigint[], $12::int[], $13::bytea[])
    with ordinality as new (id, type, key, subject, version, schema_version, payload, n)
order by n
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


async def emit(tx: AnyTx, *messages: Message, key: str | None = None) -> list[UUID]:
    """Writes the events; they are published if and when `tx` commits. Returns their ids."""
    keys = [key_of(message) if key is None else key for message in messages]
    return await write(tx, messages, keys)


async def write(
    tx: AnyTx,
    messages: Sequence[Message],
    keys: Sequence[str],
    ids: Sequence[UUID] = (),
    versions: tuple[str, int] | None = None,
) -> list[UUID]:
    """As `emit`. `versions` are an aggregate's kind and its version before these events."""
    db, came = database_of(tx), provenance.get()
    now, payloads = db.clock.now(), [message.SerializeToString() for message in messages]
    if any(len(payload) > PAYLOAD_BYTES_MAX for payload in payloads):
        raise EventTooLarge(max(messages, key=lambda message: message.ByteSize()).DESCRIPTOR.full_name)
    written = list(ids) or [uuid7(now) for _ in messages]
    stream, last = versions or (None, 0)
    await execute(
        tx,
        INSERT,
        written,
        [message.DESCRIPTOR.full_name for message in messages],
        list(keys),
        [subject_of(message) for message in messages],
        came.actor,
        came.acting,
        came.trace,
        came.causation,
        now,
        stream,
        [last + n if stream else None for n in range(1, len(messages) + 1)],
        [schema_of(message.DESCRIPTOR.full_name) for message in messages],
        payloads,
    )
    after_commit(tx, db.emitted)
    return written


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
    """An event that no table holds, as its producer's relay would publish it: for tests and bridges."""
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
