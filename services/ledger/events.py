"""What other services announce, booked: each event once, by ids derived from it, many in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.db import Tx
from services.chassis.errors import Refusal
from services.chassis.events import Envelope, Provenance, emit
from services.chassis.inbox import Every, Handler, Heard, Many
from services.ledger.domain.book import Wanted
from services.ledger.domain.posting import Posting, houses, transfers
from services.ledger.house import ensure
from services.ledger.journal import Journal
from services.ledger.rules import RULES
from services.ledger.store import memo as memos
from weft.identity.v1.events_pb2 import UserDeleted
from weft.ledger.v1.events_pb2 import MemosShredded


class Postings:
    """Handlers by event."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def consumers(self) -> Mapping[type[Message] | Every, Handler | Many]:
        """Whoever books holds the ledger, so what waits is booked by one turn, and others get theirs."""
        found: dict[type[Message] | Every, Handler | Many] = {UserDeleted: self.user_deleted}
        for kind, rule in RULES.items():
            found[kind] = Many(self.book, f"Postings.{rule.__name__}")
        return found

    async def book(self, heard: Sequence[Heard], tx: Tx) -> None:
        """Raises the refusal of the first posting that is refused; then nothing of them stands."""
        wanted: list[Wanted] = []
        postings: list[Posting] = []
        by: dict[UUID, Provenance] = {}
        for each in heard:
            booked = RULES[type(each.event)](each.event)
            effective = _effective(each.event) or each.envelope.at
            made = transfers(booked.postings, each.envelope.id, booked.reference, effective)
            wanted, postings = wanted + made, postings + booked.postings
            by |= {one.transfer_id: each.by for one in made}
        await ensure(tx, houses(postings))
        for outcome in await self._journal.record(tx, wanted, by) if wanted else ():
            if isinstance(outcome, Refusal):
                raise outcome

    async def user_deleted(self, event: UserDeleted, of: Envelope, tx: Tx) -> None:
        """What the memos say of that person can be read no more."""
        if await memos.shred(tx, event.user_id):
            await emit(tx, MemosShredded(memo_owner_id=event.user_id))


def _effective(event: Any) -> datetime | None:
    """When it happened in business terms; None where the event does not say."""
    if "effective_time" not in event.DESCRIPTOR.fields_by_name or not event.HasField("effective_time"):
        return None
    at: datetime = event.effective_time.ToDatetime(UTC)
    return at
