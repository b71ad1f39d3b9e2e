"""weft.ledger.v1.TransferService."""

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import money_from_pb, money_to_pb
from services.ledger import pack
from services.ledger.domain.book import Wanted
from services.ledger.domain.chart import position
from services.ledger.domain.entry import Entry
from services.ledger.domain.exchange import Exchange
from services.ledger.house import ensure
from services.ledger.journal import Journal
from services.ledger.store import account as accounts, entry as store, memo as memos
from weft.ledger.v1 import transfer_pb2 as pb
from weft.ledger.v1.events_pb2 import MemosShredded
from weft.ledger.v1.transfer_pb2_grpc import TransferServiceServicer


class Transfers(TransferServiceServicer):
    def __init__(self, db: Database, journal: Journal, page_key: str) -> None:
        self._db, self._journal, self._page_key = db, journal, page_key

    async def CreateTransfer(
        self, request: pb.CreateTransferRequest, call: Call
    ) -> pb.CreateTransferResponse:
        made = await self._booked([pack.wanted(request.transfer, self._db.clock.now())])
        return pb.CreateTransferResponse(transfer=made[0])

    async def CreateTransfers(
        self, request: pb.CreateTransfersRequest, call: Call
    ) -> pb.CreateTransfersResponse:
        now = self._db.clock.now()
        outcomes = await self._journal.book([pack.wanted(new, now) for new in request.transfers])
        keys = await self._journal.memo_of([each for each in outcomes if isinstance(each, Entry)])
        response = pb.CreateTransfersResponse()
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                response.results.add(refusal=outcome.status())
            else:
                response.results.add(transfer=pack.entry(outcome, keys))
        return response

    async def PostTransfer(self, request: pb.PostTransferRequest, call: Call) -> pb.PostTransferResponse:
        return pb.PostTransferResponse(transfer=(await self._booked([pack.posting(request)]))[0])

    async def VoidTransfer(self, request: pb.VoidTransferRequest, call: Call) -> pb.VoidTransferResponse:
        return pb.VoidTransferResponse(transfer=(await self._booked([pack.voiding(request)]))[0])

    async def CreateExchange(
        self, request: pb.CreateExchangeRequest, call: Call
    ) -> pb.CreateExchangeResponse:
        bought = await accounts.get(self._db, UUID(request.buy_account_id))
        exchange = _exchange(request, bought["currency"])
        async with self._db.transaction() as tx:
            await ensure(tx, [position(exchange.sold.currency), position(exchange.buy_currency)])
        made = await self._booked(exchange.transfers())
        return pb.CreateExchangeResponse(bought=money_to_pb(exchange.bought()), transfers=made)

    async def _booked(self, wanted: Sequence[Wanted]) -> list[pb.Transfer]:
        """All of them. Raises the refusal of the first that was not refused for another's sake."""
        outcomes = await self._journal.book(wanted)
        refusals = [each for each in outcomes if isinstance(each, Refusal)]
        if refusals:
            raise next((r for r in refusals if r.reason() != "LINKED_TRANSFER_FAILED"), refusals[0])
        entries = [each for each in outcomes if isinstance(each, Entry)]
        keys = await self._journal.memo_of(entries)
        return [pack.entry(each, keys) for each in entries]

    async def GetTransfer(self, request: pb.GetTransferRequest, call: Call) -> pb.GetTransferResponse:
        entry, resolved = await store.get(self._db, UUID(request.transfer_id))
        keys = await self._journal.memo_of([entry])
        return pb.GetTransferResponse(transfer=pack.entry(entry, keys, resolved))

    async def ListTransfers(self, request: pb.ListTransfersRequest, call: Call) -> pb.ListTransfersResponse:
        page = store.TRANSFERS.page(request, self._page_key)
        entries, resolved, token = await store.page(self._db, page)
        keys = await self._journal.memo_of(entries)
        rows = [pack.entry(each, keys, resolved) for each in entries]
        return pb.ListTransfersResponse(transfers=rows, next_page_token=token)

    async def ShredMemos(self, request: pb.ShredMemosRequest, call: Call) -> pb.ShredMemosResponse:
        async with self._db.transaction() as tx:
            if await memos.shred(tx, request.memo_owner_id):
                await emit(tx, MemosShredded(memo_owner_id=request.memo_owner_id))
        return pb.ShredMemosResponse()


def _exchange(request: pb.CreateExchangeRequest, currency: str) -> Exchange:
    """What is asked for, into `currency`."""
    return Exchange(
        exchange_id=UUID(request.exchange_id),
        sell_account_id=UUID(request.sell_account_id),
        buy_account_id=UUID(request.buy_account_id),
        sold=money_from_pb(request.amount),
        buy_currency=currency,
        rate=Decimal(request.rate),
        fee_minor=request.fee_minor,
        fee_account_id=UUID(request.fee_account_id) if request.fee_account_id else None,
        reference=request.reference,
        effective_at=pack.moment(request, "effective_time"),
        asked=sha256(request.SerializeToString(deterministic=True)).digest(),
    )
