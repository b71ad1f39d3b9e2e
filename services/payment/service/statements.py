"""weft.payment.v1.StatementService."""

import asyncio
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.payment import purse
from services.payment.domain import camt
from services.payment.domain.intent import BY_BANK
from services.payment.domain.statement import (
    BankEntry,
    BankEntryResolved,
    BankEntryUnfit,
    EntryState,
    Statement,
)
from services.payment.domain.wallet import Change, Reason, entry_of
from services.payment.matching import Matcher, unfit
from services.payment.service import pack
from services.payment.service.shared import Shared
from services.payment.store import intent as intents, statement as store
from weft.payment.v1 import events_pb2, statement_pb2 as pb
from weft.payment.v1.statement_pb2_grpc import StatementServiceServicer


class Statements(StatementServiceServicer):
    def __init__(self, shared: Shared, matcher: Matcher) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock
        self._matcher = matcher

    async def ImportStatements(
        self, request: pb.ImportStatementsRequest, call: Call
    ) -> pb.ImportStatementsResponse:
        read = await asyncio.to_thread(camt.read, request.file.data)
        fresh = []
        async with self._db.transaction() as tx:
            for each in read:
                if await self._matcher.take(tx, each):
                    fresh.append(each)
        for each in fresh:
            await self._matcher.match_new(each.statement_id)
        async with self._db.transaction() as tx:
            rows = [await tx.get(Statement, each.statement_id) for each in read]
            unmatched = await store.unmatched(tx, [each.statement_id for each in read])
        packed = [pack.statement(row, unmatched.get(row.statement_id, 0)) for row in rows if row]
        return pb.ImportStatementsResponse(
            statements=packed,
            new_entries=sum(len(each.entries) for each in fresh),
            new_unmatched=sum(unmatched.get(each.statement_id, 0) for each in fresh),
        )

    async def ListStatements(
        self, request: pb.ListStatementsRequest, call: Call
    ) -> pb.ListStatementsResponse:
        page = store.STATEMENTS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
            unmatched = await store.unmatched(tx, [row.statement_id for row in rows])
        packed = [pack.statement(row, unmatched.get(row.statement_id, 0)) for row in rows]
        return pb.ListStatementsResponse(statements=packed, next_page_token=token)

    async def ListBankEntries(
        self, request: pb.ListBankEntriesRequest, call: Call
    ) -> pb.ListBankEntriesResponse:
        page = store.ENTRIES.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.entry_page(tx, page)
        packed = [pack.bank_entry(row, self._matcher.words(row)) for row in rows]
        return pb.ListBankEntriesResponse(entries=packed, next_page_token=token)

    async def ResolveBankEntry(
        self, request: pb.ResolveBankEntryRequest, call: Call
    ) -> pb.ResolveBankEntryResponse:
        async with self._db.transaction() as tx:
            row = await store.entry(tx, UUID(request.entry_id))
            if not _resolved(row, request):
                await self._resolve(tx, row, request)
                told = events_pb2.BankEntryResolved(
                    entry_id=request.entry_id,
                    intent_id=request.intent_id,
                    customer_id=request.customer_id,
                    dismissal=request.dismissal,
                )
                await emit(tx, told)
        packed = pack.bank_entry(row, self._matcher.words(row))
        return pb.ResolveBankEntryResponse(entry=packed)

    async def _resolve(self, tx: Tx, row: BankEntry, request: pb.ResolveBankEntryRequest) -> None:
        """Raises BankEntryUnfit, UnknownIntent."""
        if request.dismissal:
            row.state, row.problem = EntryState.DISMISSED, request.dismissal
            return
        if row.amount <= 0:
            raise BankEntryUnfit(problem="it left our account")
        if request.customer_id:
            await self._credit(tx, row, UUID(request.customer_id))
            return
        intent = await intents.get(tx, UUID(request.intent_id), lock=True)
        problem = unfit(intent, row) if intent.kind in BY_BANK else "the payment is not by bank"
        if problem:
            raise BankEntryUnfit(problem=problem)
        await self._matcher.pay(tx, row, intent)

    async def _credit(self, tx: Tx, row: BankEntry, customer_id: UUID) -> None:
        credit = Change(
            entry_id=entry_of(f"bank entry {row.entry_id}"),
            customer_id=customer_id,
            amount=row.money,
            reason=Reason.TRANSFER,
            reference=f"bank_entry:{row.entry_id}",
        )
        await purse.change(tx, credit, self._clock.now())
        row.match(None, customer_id)


def _resolved(row: BankEntry, request: pb.ResolveBankEntryRequest) -> bool:
    """Whether it was resolved so before. Raises BankEntryResolved."""
    if row.state in (EntryState.UNMATCHED, EntryState.NEW):
        return False
    as_before = {
        "intent_id": str(row.intent_id or ""),
        "customer_id": "" if row.intent_id else str(row.customer_id or ""),
        "dismissal": row.problem if row.state == EntryState.DISMISSED else "",
    }
    asked = request.WhichOneof("resolution")
    if asked is None or getattr(request, asked) != as_before[asked]:
        raise BankEntryResolved(entry_id=row.entry_id, state=row.state)
    return True
