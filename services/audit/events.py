"""Every service's events, appended to the trail as they come."""

from collections.abc import Sequence

from services.audit import knowing, store
from services.audit.domain import Entry
from services.chassis.db import Tx
from services.chassis.inbox import Heard, Many
from weft.audit.v1.events_pb2 import ChainAnchored

ANCHORED = ChainAnchored.DESCRIPTOR.full_name  # The trail does not tell of its own seals.


async def append(heard: Sequence[Heard], tx: Tx) -> None:
    """All that wait at once: whoever appends holds the head until its transaction ends."""
    entries = [_entry(each) for each in heard if each.envelope.type != ANCHORED]
    if entries:
        await store.append(tx, entries)


APPENDING = Many(append, append.__qualname__)


def _entry(heard: Heard) -> Entry:
    envelope, payload = heard.envelope, heard.event
    return Entry(
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
