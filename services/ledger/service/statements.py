"""weft.ledger.v1.StatementService."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import Database
from services.chassis.method import Call
from services.ledger import pack
from services.ledger.domain import statement as files
from services.ledger.domain.period import checked, days
from services.ledger.domain.statement import Head, Movement
from services.ledger.service.places import Places
from services.ledger.store import account as accounts, entry as entries, report
from weft.ledger.v1 import account_pb2, statement_pb2 as pb
from weft.ledger.v1.statement_pb2_grpc import StatementServiceServicer

PAGE_SIZE = 100
BATCH = 1_000  # Movements in hand while a statement is exported.
PIECE_BYTES_MAX = 65_536  # As the contract says; far below what one message may weigh.
BEFORE_ALL = 0  # No entry has this sequence.


class Statements(StatementServiceServicer):
    def __init__(self, db: Database, page_key: str) -> None:
        self._db, self._places = db, Places(page_key)

    async def GetStatement(self, request: pb.GetStatementRequest, call: Call) -> pb.GetStatementResponse:
        head = await self._head(request)
        size = request.page_size or PAGE_SIZE
        place = self._places.opened(request)
        after, balance = ((place.at, place.sequence), place.balance) if place else _start(head)
        rows = await entries.movements(self._db, head.account_id, after, head.end, size + 1)
        movements = _movements(rows[:size], balance)
        token = self._places.closed(request, movements[-1]) if len(rows) > size else ""
        return pb.GetStatementResponse(
            currency=head.currency,
            opening_minor=head.opening,
            closing_minor=head.closing,
            movements=[_movement_to_pb(each) for each in movements],
            next_page_token=token,
        )

    async def ExportStatement(
        self, request: pb.ExportStatementRequest, call: Call
    ) -> AsyncIterator[pb.ExportStatementResponse]:
        head = await self._head(request)
        camt = request.format == pb.STATEMENT_FORMAT_CAMT053
        text = files.camt_head(head) if camt else files.csv_head()
        after, balance = _start(head)
        while True:
            rows = await entries.movements(self._db, head.account_id, after, head.end, BATCH)
            movements = _movements(rows, balance)
            text += files.camt_entries(head, movements) if camt else files.csv_lines(head, movements)
            text += files.camt_foot() if camt and len(rows) < BATCH else ""
            for piece in files.pieces(text, PIECE_BYTES_MAX):
                yield pb.ExportStatementResponse(content=piece)
            if len(rows) < BATCH:
                return
            after, balance = (movements[-1].effective_at, movements[-1].sequence), movements[-1].balance
            text = ""

    async def _head(self, request: pb.GetStatementRequest | pb.ExportStatementRequest) -> Head:
        """Raises UnknownAccount, PeriodRefused."""
        now = self._db.clock.now()
        start = pack.moment(request, "start_time") or now
        start, end = checked(start, pack.moment(request, "end_time") or now)
        account_id = UUID(request.account_id)
        row = await accounts.get(self._db, account_id)
        opening = await accounts.before(self._db, account_id, start)
        closing = await accounts.before(self._db, account_id, end)
        return Head(row["code"], account_id, row["currency"], start, end, now, opening, closing)

    async def GetTrialBalance(
        self, request: pb.GetTrialBalanceRequest, call: Call
    ) -> pb.GetTrialBalanceResponse:
        rows = await report.trial(self._db, request.currency, pack.moment(request, "at"))
        return pb.GetTrialBalanceResponse(
            accounts=[_total(row) for row in rows],
            debits_minor=sum(row["debits"] for row in rows),
            credits_minor=sum(row["credits"] for row in rows),
        )

    async def ListTurnovers(self, request: pb.ListTurnoversRequest, call: Call) -> pb.ListTurnoversResponse:
        period = days(request.from_month, request.to_month)
        rows = await report.turnovers(self._db, request.currency, period, request.code_prefix)
        return pb.ListTurnoversResponse(turnovers=[_turnover(row) for row in rows])


def _start(head: Head) -> tuple[tuple[datetime, int], int]:
    """The place before a statement's first movement, and the balance there."""
    return (head.start, BEFORE_ALL), head.opening


def _movements(rows: Any, balance: int) -> list[Movement]:
    """`balance` is the one before the first."""
    made = []
    for row in rows:
        balance += row["debit"]
        made.append(
            Movement(
                transfer_id=row["transfer_id"],
                other=row["other"],
                debit=row["debit"],
                balance=balance,
                code=row["code"],
                reference=row["reference"],
                effective_at=row["effective_at"],
                recorded_at=row["recorded_at"],
                sequence=row["sequence"],
            )
        )
    return made


def _movement_to_pb(of: Movement) -> pb.Movement:
    made = pb.Movement(
        transfer_id=str(of.transfer_id),
        other_account_id=str(of.other),
        debit_minor=of.debit,
        balance_after_minor=of.balance,
        code=of.code,
        reference=of.reference,
    )
    made.effective_time.FromDatetime(of.effective_at)
    made.record_time.FromDatetime(of.recorded_at)
    return made


def _total(row: Any) -> pb.AccountTotal:
    return pb.AccountTotal(
        account_id=str(row["account_id"]),
        code=row["code"],
        kind=account_pb2.AccountKind.Value(f"ACCOUNT_KIND_{row['kind']}"),
        debits_minor=row["debits"],
        credits_minor=row["credits"],
    )


def _turnover(row: Any) -> pb.Turnover:
    return pb.Turnover(
        month=row["month"],
        account_id=str(row["account_id"]),
        code=row["code"],
        debits_minor=row["debits"],
        credits_minor=row["credits"],
    )
