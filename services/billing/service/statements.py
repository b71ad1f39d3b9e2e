"""weft.billing.v1.StatementService."""

from uuid import UUID

from services.billing.domain.statement import ENTRIES_MAX, StatementRefused
from services.billing.service.shared import Shared
from services.billing.service.stamps import moment, stamp
from services.billing.store import statement as store
from services.chassis.method import Call
from weft.billing.v1 import statement_pb2 as pb
from weft.billing.v1.statement_pb2_grpc import StatementServiceServicer
from weft.money.v1.money_pb2 import Money


class Statements(StatementServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def GetStatement(self, request: pb.GetStatementRequest, call: Call) -> pb.GetStatementResponse:
        start, customer_id = moment(request.start_time), UUID(request.customer_id)
        end = moment(request.end_time) if request.HasField("end_time") else self._shared.clock.now()
        if end < start:
            raise StatementRefused(problem="it ends after it starts", field="end_time")
        async with self._shared.db.transaction("REPEATABLE READ") as tx:
            balance = await store.balance(tx, customer_id, request.currency, start)
            rows = await store.entries(tx, customer_id, request.currency, start, end)
        if len(rows) > ENTRIES_MAX:
            raise StatementRefused(problem=f"it has more than {ENTRIES_MAX} entries", field="start_time")

        def money(minor: int) -> Money:
            return Money(amount_minor=minor, currency=request.currency)

        opening, entries = balance, []
        for row in rows:
            balance += row["amount"]
            entries.append(
                pb.StatementEntry(
                    kind=pb.StatementEntryKind.Value(f"STATEMENT_ENTRY_KIND_{row['kind']}"),
                    time=stamp(row["at"]),
                    invoice_id=str(row["invoice_id"]),
                    number=row["number"],
                    amount=money(row["amount"]),
                    balance=money(balance),
                )
            )
        return pb.GetStatementResponse(
            opening_balance=money(opening), entries=entries, closing_balance=money(balance)
        )
