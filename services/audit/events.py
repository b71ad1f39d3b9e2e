"""Every service's events, appended to the trail as they come."""

from services.audit import knowing, store
from services.audit.domain import Entry
from services.chassis.db import Tx
from services.chassis.events import Envelope
from weft.audit.v1.events_pb2 import ChainAnchored


async def append(payload: bytes, envelope: Envelope, tx: Tx) -> None:
    """One at a time: whoever appends holds the head until its transaction ends."""
    if envelope.type == ChainAnchored.DESCRIPTOR.full_name:
        return
    entry = Entry(
        event_id=envelope.id,
        service=envelope.service,
        type=envelope.type,
        key=envelope.key,
        subject_id=envelope.subject,
        actor=envelope.actor,
        acting=envelope.acting,
        trace=envelope.trace,
        causation=str(envelope.causation or ""),
        event_time=envelope.at,
        version=envelope.version or 0,
        schema_version=envelope.schema_version,
        payload=b"" if knowing.asks(envelope.type) else payload,
    )
    await store.append(tx, entry)
