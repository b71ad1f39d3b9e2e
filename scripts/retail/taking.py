"""Takes a wholesaler's months over: assortment, stock, orders and what was given back, adjusted debts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import grpc.aio

from scripts.retail import packing
from scripts.retail.books import Day, Survey, pence, tangible
from scripts.retail.matching import Matching
from scripts.retail.packing import CURRENCY, made_id, stamp
from scripts.retail.rows import Refused, Row
from scripts.retail.sending import Sender, reason
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub
from weft.catalog.v1.transfer_pb2 import ImportProductsRequest
from weft.inventory.v1 import location_pb2, movement_pb2, stock_pb2
from weft.inventory.v1.location_pb2_grpc import LocationServiceStub
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub
from weft.ledger.v1 import account_pb2, transfer_pb2
from weft.ledger.v1.account_pb2_grpc import AccountServiceStub
from weft.ledger.v1.transfer_pb2_grpc import TransferServiceStub
from weft.money.v1.money_pb2 import Money
from weft.order.v1.import_pb2_grpc import OrderImportServiceStub

LINES_MAX = 500  # Of one receipt or adjustment, as the contract says.
PRODUCTS_MAX = 500  # Of one message: about 60 kB.
DEBTS = f"expenses:bad-debts-adjusted:{CURRENCY}"
RECEIVABLES = f"assets:receivables:{CURRENCY}"

T = TypeVar("T")


@dataclass
class Taken:
    """What became of it."""

    imported: int = 0  # Orders and refunds.
    unchanged: int = 0  # They were there before.
    refunds: Counter[str] = field(default_factory=Counter)  # By month.
    refused: list[Refused] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)  # Invoices whose order was refused.


class Taking:
    """Each step can be done again, and changes nothing then."""

    def __init__(self, sender: Sender, survey: Survey, scope: str) -> None:
        self._send, self.survey, self._scope = sender, survey, scope
        self._matching = Matching(survey.credited)
        self._stock = sender.stub(StockServiceStub)
        self._orders = sender.stub(OrderImportServiceStub)
        self.location_id = made_id(scope, "warehouse")
        self.opened = Counter[str]()  # Units by sku.
        self.taken = Taken(refused=list(survey.refused))

    async def assortment(self) -> int:
        """How many products there are."""
        rows = list(packing.products(self.survey))
        messages = [
            ImportProductsRequest(import_id=made_id(self._scope, "assortment"), rows=some)
            for some in batched(rows, PRODUCTS_MAX)
        ]
        stub = self._send.stub(ProductServiceStub)
        report = (await self._send.all(stub.ImportProducts, messages)).report
        for error in report.errors:
            sku = rows[error.row].variants[0].content.sku
            self.taken.refused.append(Refused("", 0, "", sku, error.reason, error.message))
        return len(rows) - int(report.refused)

    async def opening(self) -> int:
        """Units that lie there before the first day."""
        stub = self._send.stub(LocationServiceStub)
        settings = location_pb2.LocationSettings(name=f"Wholesale {self._scope}", country="GB")
        request = location_pb2.CreateLocationRequest(location_id=self.location_id, settings=settings)
        await self._send.one(stub.CreateLocation, request)
        self.opened, begin = self.survey.opening(), self.survey.begin
        assert begin
        await self._receive(self.opened, "opening", begin, movement_pb2.MOVEMENT_REASON_PURCHASE)
        return self.opened.total()

    async def day(self, day: Day) -> None:
        """Its orders and refunds in one stream; then what corrects the stock."""
        made = packing.orders(day, self._matching)
        if made:
            answer = await self._send.all(self._orders.ImportOrders, [request for request, _ in made])
            self.taken.imported += answer.imported
            self.taken.unchanged += answer.unchanged
            self.taken.refunds.update(rows[0].month for request, rows in made if request.HasField("refund"))
            for refused in answer.rows:
                request, rows = made[refused.row - 1]
                self.taken.refunds[rows[0].month] -= request.HasField("refund")
                if request.HasField("order"):
                    self.taken.missing.add(rows[0].invoice)
                self._refuse(day, rows, refused.reason, refused.message)
                self.survey.withdraw(rows)
        await self._correct(day)

    async def moves(self) -> int:
        """What left and what came back, a month at a time: the movements of single orders are not known."""
        units = 0
        for month, moved in self.survey.moved.items():
            assert moved.end
            sold, back = tangible(moved.sold), tangible(moved.back)
            units += sold.total() + back.total()
            for number, some in enumerate(batched(sorted(sold), LINES_MAX)):
                request = stock_pb2.AdjustStockRequest(
                    adjustment_id=made_id(self._scope, "sold", month, number),
                    location_id=self.location_id,
                    lines=[stock_pb2.Adjustment(sku=sku, units=-sold[sku]) for sku in some],
                    reason=movement_pb2.MOVEMENT_REASON_OTHER,
                    reference=f"sales:{month}",
                    effective_time=stamp(moved.end),
                )
                await self._send.one(self._stock.AdjustStock, request)
            reference = f"returns:{month}"
            await self._receive(back, reference, moved.end, movement_pb2.MOVEMENT_REASON_RETURN)
        return units

    async def debts(self, debts: Sequence[Row]) -> int:
        """Adjusted debts are no sales; the ledger is told of them."""
        if not debts:
            return 0
        stub = self._send.stub(AccountServiceStub)
        account = account_pb2.NewAccount(
            account_id=made_id(DEBTS),
            code=DEBTS,
            currency=CURRENCY,
            kind=account_pb2.ACCOUNT_KIND_EXPENSE,
        )
        await self._send.one(stub.CreateAccounts, account_pb2.CreateAccountsRequest(accounts=[account]))
        wanted = account_pb2.ListAccountsRequest(filter=f'code = "{RECEIVABLES}"')
        [owed] = (await self._send.one(stub.ListAccounts, wanted)).accounts
        transfers = [_adjusted(row, made_id(DEBTS), owed.account_id) for row in debts]
        booking = self._send.stub(TransferServiceStub)
        await self._send.one(
            booking.CreateTransfers, transfer_pb2.CreateTransfersRequest(transfers=transfers)
        )
        return len(transfers)

    async def _correct(self, day: Day) -> None:
        invoices = list(day.corrections.items())
        requests = [self._correction(invoice, rows) for invoice, rows in invoices]
        answers = await self._send.together(self._stock.AdjustStock, requests)
        for (_, rows), answer in zip(invoices, answers, strict=True):
            if isinstance(answer, grpc.aio.AioRpcError):
                self._refuse(day, rows, reason(answer), answer.details() or "")
                for row in rows:
                    self.survey.corrected[row.sku] -= row.units

    def _correction(self, invoice: str, rows: Sequence[Row]) -> stock_pb2.AdjustStockRequest:
        found = movement_pb2.MOVEMENT_REASON_FOUND
        lost = movement_pb2.MOVEMENT_REASON_LOSS
        return stock_pb2.AdjustStockRequest(
            adjustment_id=made_id(self._scope, "correction", invoice),
            location_id=self.location_id,
            lines=[stock_pb2.Adjustment(sku=row.sku, units=row.units) for row in rows],
            reason=found if rows[0].units > 0 else lost,
            reference=f"invoice:{invoice}",
            effective_time=stamp(rows[0].at),
        )

    async def _receive(self, units: Counter[str], what: str, at: datetime, reason: Any) -> None:
        for number, some in enumerate(batched(sorted(units), LINES_MAX)):
            request = stock_pb2.ReceiveStockRequest(
                receipt_id=made_id(self._scope, what, number),
                location_id=self.location_id,
                lines=[stock_pb2.Receipt(sku=sku, units=units[sku]) for sku in some],
                reason=reason,
                reference=what,
                effective_time=stamp(at),
            )
            await self._send.one(self._stock.ReceiveStock, request)

    def _refuse(self, day: Day, rows: Sequence[Row], reason: str, message: str) -> None:
        for row in rows:
            self.taken.refused.append(Refused(day.file, row.line, row.invoice, row.sku, reason, message))


def _adjusted(row: Row, debts: str, owed: str) -> transfer_pb2.NewTransfer:
    """Below zero nobody will pay it; above, somebody will after all."""
    minor = pence(row.amount)
    debit, credit = (owed, debts) if minor > 0 else (debts, owed)
    return transfer_pb2.NewTransfer(
        transfer_id=made_id("debt", row.invoice, row.line),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=Money(amount_minor=abs(minor), currency=CURRENCY),
        code="bad-debt",
        reference=f"invoice:{row.invoice}",
        effective_time=stamp(row.at),
    )


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
