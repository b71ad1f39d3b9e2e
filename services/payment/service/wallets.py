"""weft.payment.v1.WalletService."""

from uuid import UUID

from services.chassis.method import Call
from services.chassis.money import money_from_pb
from services.payment import purse
from services.payment.domain.intent import AmountNotPositive
from services.payment.domain.method import no_card_number
from services.payment.domain.wallet import Change, Reason
from services.payment.service import pack
from services.payment.service.shared import Shared
from services.payment.store import wallet as store
from weft.payment.v1 import wallet_pb2 as pb
from weft.payment.v1.wallet_pb2_grpc import WalletServiceServicer


class Wallets(WalletServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def GetWallets(self, request: pb.GetWalletsRequest, call: Call) -> pb.GetWalletsResponse:
        async with self._db.transaction() as tx:
            rows = await store.of_customer(tx, UUID(request.customer_id))
        return pb.GetWalletsResponse(wallets=map(pack.wallet, rows))

    async def ListWalletEntries(
        self, request: pb.ListWalletEntriesRequest, call: Call
    ) -> pb.ListWalletEntriesResponse:
        page = store.ENTRIES.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.entry_page(tx, page, UUID(request.customer_id))
        return pb.ListWalletEntriesResponse(entries=map(pack.wallet_entry, rows), next_page_token=token)

    async def AdjustWallet(self, request: pb.AdjustWalletRequest, call: Call) -> pb.AdjustWalletResponse:
        amount = money_from_pb(request.amount)
        if not amount:
            raise AmountNotPositive(field="amount")
        change = Change(
            entry_id=UUID(request.entry_id),
            customer_id=UUID(request.customer_id),
            amount=amount,
            reason=Reason.CREDIT if amount.minor > 0 else Reason.DEBIT,
            reference=no_card_number(request.reference, "reference"),
        )
        async with self._db.transaction() as tx:
            await purse.change(tx, change, self._clock.now())
            row = await store.entry(tx, change.entry_id)
        assert row is not None, "it was written just now, or before"
        return pb.AdjustWalletResponse(entry=pack.wallet_entry(row))
