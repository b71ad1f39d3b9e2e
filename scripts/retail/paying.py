"""Payments of what was sold: each order asks for a bank transfer, and a day's statement says that all came.

What nobody is known to have bought nobody pays here. What was taken back is set off and not paid out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from decimal import Decimal
from typing import Any

import grpc.aio
from google.api.httpbody_pb2 import HttpBody

from scripts.retail.books import Day, pence
from scripts.retail.packing import CURRENCY, customer_id, made_id
from scripts.retail.rows import Row
from scripts.retail.sending import Sender
from weft.money.v1.money_pb2 import Money
from weft.payment.v1 import intent_pb2, statement_pb2
from weft.payment.v1.intent_pb2_grpc import IntentServiceStub
from weft.payment.v1.statement_pb2_grpc import StatementServiceStub

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"


class Paying:
    """What is paid already is passed over."""

    def __init__(self, sender: Sender) -> None:
        self._send = sender
        self._intents = sender.stub(IntentServiceStub)
        self._statements = sender.stub(StatementServiceStub)
        self.paid = Counter[str]()  # Pence by month.

    async def day(self, day: Day, refused: Set[str]) -> None:
        """`refused` are invoices that are no orders."""
        sold = {invoice: rows for invoice, rows in day.sales.items() if invoice not in refused}
        wanted = [_wanted(invoice, rows) for invoice, rows in sold.items() if _owed(rows)]
        answers = await self._send.together(self._intents.CreateIntent, wanted)
        entries = []
        for request, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, grpc.aio.AioRpcError):
                raise answer
            self.paid[f"{day.on:%Y-%m}"] += request.amount.amount_minor
            if answer.intent.state != intent_pb2.INTENT_STATE_SUCCEEDED:
                entries.append(answer.intent)
        if entries:
            file = HttpBody(content_type="application/xml", data=_statement(day, entries).encode())
            request = statement_pb2.ImportStatementsRequest(file=file)
            await self._send.one(self._statements.ImportStatements, request)


def _owed(rows: Sequence[Row]) -> int:
    """Pence that somebody owes for it."""
    return sum(pence(row.amount) for row in rows) if rows[0].customer else 0


def _wanted(invoice: str, rows: Sequence[Row]) -> intent_pb2.CreateIntentRequest:
    return intent_pb2.CreateIntentRequest(
        intent_id=made_id("intent", invoice),
        reference=f"order:{made_id('order', invoice)}",
        customer_id=customer_id(rows[0]),
        amount=Money(amount_minor=_owed(rows), currency=CURRENCY),
        kind=intent_pb2.METHOD_KIND_BANK_TRANSFER,
        confirm=True,
    )


def _statement(day: Day, intents: Sequence[Any]) -> str:
    """ISO 20022 camt.053; its number is made of what it holds."""
    number = made_id("statement", *(each.intent_id for each in intents))
    entries = "".join(_entry(day, each) for each in intents)
    account = intents[0].next_action.transfer.iban
    return (
        f'<Document xmlns="{NAMESPACE}"><BkToCstmrStmt><Stmt><Id>{number}</Id>'
        f"<CreDtTm>{day.on}T23:59:00+00:00</CreDtTm><Acct><Id><IBAN>{account}</IBAN></Id></Acct>"
        f"{entries}</Stmt></BkToCstmrStmt></Document>"
    )


def _entry(day: Day, intent: Any) -> str:
    amount, reference = Decimal(intent.amount.amount_minor).scaleb(-2), intent.next_action.transfer.reference
    return (
        f'<Ntry><Amt Ccy="{intent.amount.currency}">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
        f"<Sts><Cd>BOOK</Cd></Sts><ValDt><Dt>{day.on}</Dt></ValDt><AcctSvcrRef>{intent.intent_id}</AcctSvcrRef>"
        f"<NtryDtls><TxDtls><RmtInf><Ustrd>{reference}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
    )
