"""The one way into the ledger: callers who come together are written together.

Writers take turns (they hold the head), so what counts is how many transfers one turn writes. While one
batch commits, the next gathers: each caller waits for one commit, and none costs a commit of its own.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.db import AnyTx, Database
from services.chassis.errors import Refusal
from services.chassis.events import emit
from services.chassis.sealing import Seal
from services.ledger import pack
from services.ledger.domain import memo
from services.ledger.domain.book import Outcome, Wanted
from services.ledger.domain.entry import Entry, LedgerBusy
from services.ledger.store import memo as memos, writing

BATCH_MAX = 1_000  # Transfers of one commit: some 30 ms of work, which is what a caller waits at most.
EVENT_MAX = 200  # Transfers told in one event; their ids and amounts take some 40 of its 64 KB.
WAITING_MAX = 20_000  # Transfers that wait; more callers are refused at once, rather than served late.


@dataclass(slots=True)
class _Request:
    wanted: Sequence[Wanted]
    done: asyncio.Future[list[Outcome]]


class Journal:
    """Books transfers."""

    def __init__(self, db: Database, seal: Seal) -> None:
        self._db, self._seal = db, seal
        self._waiting: list[_Request] = []
        self._count = 0
        self._writing: asyncio.Task[None] | None = None

    async def book(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """Outcomes in order, once they are committed. Raises LedgerBusy, DatabaseAway, DatabaseBusy."""
        if self._count + len(wanted) > WAITING_MAX:
            raise LedgerBusy(waiting=self._count)
        request = _Request(wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._count += len(wanted)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await request.done

    async def record(self, tx: AnyTx, wanted: Sequence[Wanted]) -> list[Outcome]:
        """The same in a transaction of the caller's, who holds the ledger until it ends."""
        now = self._db.clock.now()
        book, now = await writing.opened(tx, wanted, now)
        await self._seal_memos(tx, wanted)
        outcomes = book.book(wanted, now)
        await writing.write(tx, book, now)
        for start in range(0, len(book.written), EVENT_MAX):
            await emit(tx, pack.recorded(book.written[start : start + EVENT_MAX]))
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

    async def _write_all(self) -> None:
        """Ends when nobody waits."""
        try:
            await asyncio.sleep(0)  # Callers of this loop tick come along.
            while self._waiting:
                await self._write(self._next())
        finally:
            self._writing = None

    def _next(self) -> list[_Request]:
        taken, count = 0, 0
        for request in self._waiting:
            if taken and count + len(request.wanted) > BATCH_MAX:
                break
            taken, count = taken + 1, count + len(request.wanted)
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._count -= count
        return batch

    async def _write(self, batch: list[_Request]) -> None:
        try:
            async with self._db.fast() as tx:
                outcomes = await self.record(tx, [each for request in batch for each in request.wanted])
        except Refusal as refusal:
            for request in batch:
                _fail(request, type(refusal)(**refusal.facts))
        except Exception as error:
            await self._one_by_one(batch, error)
        else:
            _tell(batch, outcomes)

    async def _one_by_one(self, batch: list[_Request], error: Exception) -> None:
        """One of them spoiled it; the others are not to blame."""
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for request in batch:
            await self._write([request])


def _tell(batch: list[_Request], outcomes: list[Outcome]) -> None:
    start = 0
    for request in batch:
        end = start + len(request.wanted)
        if not request.done.done():
            request.done.set_result(outcomes[start:end])
        start = end


def _fail(request: _Request, error: Exception) -> None:
    if not request.done.done():
        request.done.set_exception(error)
