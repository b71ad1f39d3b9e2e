"""weft.order.v1.OrderImportService."""

from collections import Counter
from collections.abc import AsyncIterator

from services.chassis.method import Call
from services.order.importing import Importer, Refused
from services.order.service.shared import Shared
from weft.order.v1 import import_pb2 as pb
from weft.order.v1.import_pb2_grpc import OrderImportServiceServicer

BATCH_MAX = 100  # Rows of one transaction: a row costs 0.4 ms in it, and alone 4.
REPORT_MAX = 10_000  # Rows, as ImportOrders promises: about 1 MB, of the 4 MB that an answer may have.


class Imports(OrderImportServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._importer = Importer(shared.db, shared.clock, shared.sealing)

    async def ImportOrders(
        self, requests: AsyncIterator[pb.ImportOrdersRequest], call: Call
    ) -> pb.ImportOrdersResponse:
        report = _Report()
        batch: list[pb.ImportOrdersRequest] = []
        async for request in requests:
            batch.append(request)
            if len(batch) == BATCH_MAX:
                report.add(await self._importer.take(batch))
                batch = []
        if batch:
            report.add(await self._importer.take(batch))
        return report.packed()


class _Report:
    """What became of the rows."""

    def __init__(self) -> None:
        self._imported = self._unchanged = self._rows = 0
        self._refused: list[pb.RefusedRow] = []
        self._reasons = Counter[str]()

    def add(self, outcomes: list[Refused | bool]) -> None:
        """Of each row in its order: why it was refused, or whether it is new."""
        for outcome in outcomes:
            self._rows += 1
            if isinstance(outcome, Refused):
                self._reasons[outcome.reason] += 1
                if len(self._refused) < REPORT_MAX:
                    self._refused.append(_row(self._rows, outcome))
            elif outcome:
                self._imported += 1
            else:
                self._unchanged += 1

    def packed(self) -> pb.ImportOrdersResponse:
        return pb.ImportOrdersResponse(
            imported=self._imported,
            unchanged=self._unchanged,
            refused=self._reasons.total(),
            rows=self._refused,
            refused_by_reason=self._reasons,
        )


def _row(number: int, refused: Refused) -> pb.RefusedRow:
    return pb.RefusedRow(
        row=number, id=refused.id, reason=refused.reason, field=refused.field, message=refused.message
    )
