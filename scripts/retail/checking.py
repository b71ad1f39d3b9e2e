"""Whether the books come to what the files say: the ledger's, the orders' and the stock's."""

from __future__ import annotations

import asyncio
import csv
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from scripts.retail.books import Survey
from scripts.retail.packing import CURRENCY
from scripts.retail.sending import Sender
from scripts.retail.taking import DEBTS
from weft.inventory.v1.stock_pb2 import ListStockRequest
from weft.inventory.v1.stock_pb2_grpc import StockServiceStub
from weft.ledger.v1.statement_pb2 import GetTrialBalanceRequest, ListTurnoversRequest
from weft.ledger.v1.statement_pb2_grpc import StatementServiceStub
from weft.order.v1.order_lists_pb2 import ListOrdersRequest
from weft.order.v1.order_pb2_grpc import OrderServiceStub

PUBLISHED = "expected_totals_by_month.csv"
SALES, RETURNS = f"income:sales:{CURRENCY}", f"income:returns:{CURRENCY}"
BANK = f"assets:clearing:bank:{CURRENCY}"
PAGE = 200
STILL_S = 60.0  # A ledger to which nothing was added for so long has all that it will get.
LOOK_S = 0.5


@dataclass(frozen=True)
class Booked:
    """What the ledger has of a month, in pence."""

    sales: int = 0
    returns: int = 0
    debts: int = 0
    paid: int = 0  # By bank.

    @property
    def net(self) -> int:
        return self.sales - self.returns - self.debts


class Checking:
    def __init__(self, sender: Sender, survey: Survey) -> None:
        self._send, self._survey = sender, survey
        self._ledger = sender.stub(StatementServiceStub)

    async def booked(self) -> dict[str, Booked]:
        """By month."""
        months = sorted(self._survey.net)
        request = ListTurnoversRequest(currency=CURRENCY, from_month=months[0], to_month=months[-1])
        sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for each in (await self._send.one(self._ledger.ListTurnovers, request)).turnovers:
            sums[each.month][each.code] += each.debits_minor - each.credits_minor
        return {
            month: Booked(-sums[month][SALES], sums[month][RETURNS], sums[month][DEBTS], sums[month][BANK])
            for month in months
        }

    async def settled(self, net: int, paid: int | None, tell: Callable[[int], None]) -> dict[str, Booked]:
        """The ledger's months once they sum to that, or once nothing is added any more; None: to any."""
        last, since = None, time.monotonic()
        while True:
            found = await self.booked()
            if found != last:
                last, since = found, time.monotonic()
                tell(sum(month.sales for month in found.values()))
            came = sum(month.paid for month in found.values())
            there = sum(month.net for month in found.values()) == net and paid in (None, came)
            if there or time.monotonic() - since > STILL_S:
                return found
            await asyncio.sleep(LOOK_S)

    async def balanced(self) -> bool:
        """Whether debits equal credits."""
        found = await self._send.one(self._ledger.GetTrialBalance, GetTrialBalanceRequest(currency=CURRENCY))
        return bool(found.debits_minor == found.credits_minor)

    async def orders(self) -> dict[str, Counter[str]]:
        """How many orders there are by month, and what they come to, as the order service lists them."""
        stub, found = self._send.stub(OrderServiceStub), defaultdict[str, Counter[str]](Counter)
        months = sorted(self._survey.net)
        begin, end = _begin(months[0]), _begin(_after(months[-1]))
        wanted = f'imported = true AND create_time >= "{begin}" AND create_time < "{end}"'
        request = ListOrdersRequest(page_size=PAGE, filter=wanted)
        while True:
            page = await self._send.one(stub.ListOrders, request)
            for order in page.orders:
                month = f"{order.create_time.ToDatetime(UTC):%Y-%m}"
                found[month].update(orders=1, gross=order.gross_total.amount_minor)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def stock(self, location_id: str) -> Counter[str]:
        """Units that lie there, by sku."""
        stub, units = self._send.stub(StockServiceStub), Counter[str]()
        request = ListStockRequest(page_size=PAGE, filter=f'location_id = "{location_id}"')
        while True:
            page = await self._send.one(stub.ListStock, request)
            units.update({each.sku: each.on_hand for each in page.stock if each.on_hand})
            if not page.next_page_token:
                return units
            request.page_token = page.next_page_token


def published(files: Sequence[Path], survey: Survey) -> Mapping[str, Decimal]:
    """Net by month as it is published beside the files; what the lines sum to where it is not."""
    known: dict[str, Decimal] = {}
    for table in {path.with_name(PUBLISHED) for path in files}:
        if table.exists():
            with table.open(encoding="utf-8") as file:
                known |= {line["month"]: Decimal(line["net_gbp"]) for line in csv.DictReader(file)}
    return {month: known.get(month, net) for month, net in survey.net.items()}


def _begin(month: str) -> str:
    return f"{month}-01T00:00:00Z"


def _after(month: str) -> str:
    first = datetime.fromisoformat(f"{month}-01")
    return f"{first.year + first.month // 12}-{first.month % 12 + 1:02}"
