"""The one way into the ledger: callers who come together are written together.

Writers take turns (they hold the head), so what counts is how many transfers one turn writes. While one
batch commits, the next gathers: each caller waits for one commit, and none costs a commit of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, groupby
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, Database
from services.chassis.events import Envelope, Provenance, announcement, provenance, write as write_events
from services.chassis.grouping import Grouping
from services.chassis.sealing import Seal
from services.ledger import pack
from services.ledger.domain import memo
from services.ledger.domain.book import Outcome, Wanted
from services.ledger.domain.entry import Entry, LedgerBusy
from services.ledger.store import memo as memos, writing

BATCH_MAX = 1_000  # Transfers of one commit: some 30 ms of work, which is what a caller waits at most.
EVENT_MAX = 200  # Transfers told in one event; their ids and amounts take some 40 of its 64 KB.
WAITING_MAX = 20_000  # Transfers that wait; more callers are refused at once, rather than served late.


@dataclass(frozen=True, slots=True)
class _Request:
    wanted: Sequence[Wanted]
    by: Provenance


class Journal:
    """Books transfers."""

    def __init__(self, db: Database, seal: Seal) -> None:
        self._db, self._seal = db, seal
        self._waiting = 0
        self._callers = Grouping(self._write, BATCH_MAX, weigh=lambda request: len(request.wanted))

    async def book(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """Outcomes in order, once they are committed. Raises LedgerBusy, DatabaseAway, DatabaseBusy."""
        if self._waiting + len(wanted) > WAITING_MAX:
            raise LedgerBusy(waiting=self._waiting)
        self._waiting += len(wanted)
        try:
            return await self._callers.do(_Request(wanted, provenance.get()))
        finally:
            self._waiting -= len(wanted)

    async def _write(self, batch: Sequence[_Request]) -> list[list[Outcome]]:
        """One transaction for all of them; each caller is named as the one who did what it asked for."""
        wanted = [each for request in batch for each in request.wanted]
        by = {each.transfer_id: request.by for request in reversed(batch) for each in request.wanted}
        async with self._db.fast() as tx:
            outcomes = await self.record(tx, wanted, by)
        ends = list(accumulate(len(request.wanted) for request in batch))
        return [outcomes[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    async def record(
        self, tx: AnyTx, wanted: Sequence[Wanted], by: Mapping[UUID, Provenance] | None = None
    ) -> list[Outcome]:
        """The same in a transaction of the caller's, who holds the ledger until it ends."""
        now = self._db.clock.now()
        book, now = await writing.opened(tx, wanted, now)
        await self._seal_memos(tx, wanted)
        outcomes = book.book(wanted, now)
        await writing.write(tx, book, now)
        mine, at = provenance.get(), self._db.clock.now()
        told = groupby(book.written, lambda entry: (by or {}).get(entry.transfer_id, mine))
        await write_events(tx, [event for who, entries in told for event in _events(list(entries), who, at)])
        return outcomes

    async def _seal_memos(self, tx: AnyTx, wanted: Sequence[Wanted]) -> None:
        noted = []
        for each in wanted:
            each.body = each.asked
            noted += [each] if each.memo else []
        if not noted:
            return
        keys = await memos.ensure_keys(
            tx, self._seal, {each.memo_owner_id for each in noted}, self._db.clock.now()
        )
        for each in noted:
            key = keys[each.memo_owner_id]
            each.body = memo.digest(each.asked, each.memo, key)
            each.sealed_memo = memo.seal(key, each.memo, each.transfer_id)

    async def memo_of(self, entries: Sequence[Entry]) -> dict[str, bytes]:
        """Keys that open the memos of these."""
        return await memos.keys(self._db, self._seal, {e.memo_owner_id for e in entries if e.memo})


def _events(entries: Sequence[Entry], who: Provenance, now: datetime) -> list[Envelope]:
    """What was booked for one caller."""
    mark = provenance.set(who)
    try:
        parts = [entries[start : start + EVENT_MAX] for start in range(0, len(entries), EVENT_MAX)]
        return [announcement(pack.recorded(part), uuid7(now), now) for part in parts]
    finally:
        provenance.reset(mark)
