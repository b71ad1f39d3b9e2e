"""What happened to an account, written with its event in one transaction."""

from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.clock import Clock
from services.chassis.db import Tx
from services.chassis.events import emit, provenance
from services.chassis.rpc import current_call
from services.identity.domain.activity import Activity
from services.identity.store import activity as store
from weft.identity.v1.activity_pb2 import ActivityKind

NOBODY = ("anonymous", "system")  # Actors of events that tell a person nothing.


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of an account's activity."""

    user_id: UUID
    kind: "ActivityKind.ValueType"
    session_id: str = ""  # Empty: that of the call.
    about: str = ""
    address: str = ""  # Empty: that of the call.


class Journal:
    """Numbers and writes entries. Actor and address come from the call being answered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def write(self, tx: Tx, entry: Entry, event: Message | None = None) -> None:
        """Emits `event` too. An account that is gone gets no entry, its event goes out all the same."""
        if event is not None:
            await emit(tx, event)
        sequence = await store.next_sequence(tx, entry.user_id)
        if sequence is None:
            return
        call, origin = current_call.get(), provenance.get()
        tx.add(
            Activity(
                user_id=entry.user_id,
                sequence=sequence,
                at=self._clock.now(),
                kind=ActivityKind.Name(entry.kind).removeprefix("ACTIVITY_KIND_").lower(),
                session_id=entry.session_id or (call.caller.session if call else ""),
                actor="" if origin.actor in NOBODY else origin.actor,
                acting=origin.acting,
                address=entry.address or (call.peer() if call else ""),
                about=entry.about,
            )
        )
