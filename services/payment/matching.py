"""What movements on our bank account are for.

A statement is taken in whole; its entries are then matched one by one, each in a transaction of its own with
what follows from it. An entry that was left between the two is found again.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID, uuid5

from services.chassis.db import Tx, execute
from services.chassis.events import emit
from services.payment.domain.intent import (
    FINAL,
    Asked,
    Intent,
    Outcome,
    State,
    bank_references,
)
from services.payment.domain.remote import Remote, RemoteRefund, RemoteState
from services.payment.domain.settling import GIVEN_UP, Settlement
from services.payment.domain.statement import (
    BankEntry,
    EntryState,
    Problem,
    ReadEntry,
    ReadStatement,
    Statement,
    StatementIdReused,
    refund_ids,
)
from services.payment.gateways.bank import ARRIVED, PAID_OUT, Bank
from services.payment.paying import Means, Payer
from services.payment.store import intent as intents, statement as store
from services.payment.store.once import written
from weft.payment.v1.events_pb2 import StatementImported

ROUND_EVERY_S = 30.0  # For entries that a crash left between intake and match.


class Matcher:
    """Takes statements in, and finds what their entries are for."""

    def __init__(self, means: Means, payer: Payer, bank: Bank | None) -> None:
        self._means, self._db, self._clock, self._payer = means, means.db, means.clock, payer
        self._bank = bank

    async def run(self) -> None:
        """For ever: matches what is new."""
        while True:
            await self.match_new(None)
            await self._clock.sleep(ROUND_EVERY_S)

    async def take(self, tx: Tx, read: ReadStatement) -> bool:
        """False when it was taken in before. Raises StatementIdReused."""
        digest = sha256(repr(read).encode()).digest()
        row = Statement(
            statement_id=read.statement_id,
            bank_id=read.bank_id,
            account=read.account,
            format=read.format,
            digest=digest,
            entries=len(read.entries),
            made_at=read.made_at,
            imported_at=self._clock.now(),
        )
        if not await written(tx, row):
            stored = await tx.get(Statement, row.statement_id)
            if stored is None or stored.digest != digest:
                raise StatementIdReused(bank_id=read.bank_id)
            return False
        await store.add_entries(tx, [self._entry(read, n, each) for n, each in enumerate(read.entries)])
        await emit(tx, StatementImported(statement_id=str(row.statement_id), entries=len(read.entries)))
        return True

    async def match_new(self, statement_id: UUID | None) -> None:
        """Matches all entries that are new, of one statement or of all."""
        while True:
            async with self._db.transaction() as tx:
                found = await store.new(tx, statement_id)
            for entry_id in found:
                async with self._db.transaction() as tx:
                    await self._match(tx, await store.entry(tx, entry_id))
            if len(found) < store.NEW_MAX:
                return

    def words(self, row: BankEntry) -> dict[str, str]:
        """`party`, `account` and `text`; empty ones once they are erased."""
        if row.sealed_text is None:
            return {"party": "", "account": "", "text": ""}
        read: dict[str, str] = json.loads(self._means.sealer.open_text(row.sealed_text, row.entry_id))
        return read

    def _entry(self, read: ReadStatement, number: int, entry: ReadEntry) -> BankEntry:
        entry_id = uuid5(read.statement_id, str(number))
        words = {"party": entry.party, "account": entry.party_account, "text": entry.text}
        return BankEntry(
            entry_id=entry_id,
            statement_id=read.statement_id,
            account=read.account,
            service_ref=entry.service_ref,
            currency=entry.amount.currency,
            amount=entry.amount.minor,
            reversal=entry.reversal,
            value_at=entry.value_at,
            state=EntryState.NEW,
            problem="",
            sealed_text=self._means.sealer.text(json.dumps(words), entry_id),
        )

    async def _match(self, tx: Tx, row: BankEntry) -> None:
        if row.state != EntryState.NEW:
            return
        if self._bank is None or row.account != self._bank.iban:
            row.leave(Problem.NOT_OURS)
        elif row.reversal:
            row.leave(Problem.REVERSAL)
        elif await store.repeated(tx, row):
            row.leave(Problem.REPEATED)
        elif row.amount < 0:
            await self._left(tx, row)
        else:
            await self._came(tx, row)

    async def _came(self, tx: Tx, row: BankEntry) -> None:
        words = self.words(row)
        references = bank_references(words["text"])
        if references:
            found: Sequence[Intent] = await store.by_references(tx, Bank.name, references)
            missing = Problem.UNKNOWN_REFERENCE
        else:
            mac = self._means.sealer.mac(words["account"].upper().encode())
            found, missing = await store.by_account(tx, mac, row.money), Problem.NO_REFERENCE
        if len(found) != 1:
            row.leave(Problem.AMBIGUOUS if found else missing)
        elif problem := unfit(found[0], row):
            row.leave(problem)
        else:
            await self.pay(tx, row, found[0])

    async def pay(self, tx: Tx, row: BankEntry, intent: Intent) -> None:
        """The entry pays for a payment, whose row is locked. What is not wanted any more is given back."""
        await self._desk(tx, ARRIVED, intent.gateway_ref, row.amount)
        now = self._clock.now()
        settlement = Settlement(intent, await intents.operations(tx, intent.intent_id), now)
        capture = intent.ask(Asked.CAPTURE, row.amount, now, row.entry_id)
        capture.effective_at = row.value_at
        capture.end(Outcome.SUCCEEDED, now)
        settlement.added.append(capture)
        settlement.arrived(row.amount, capture)
        row.match(intent.intent_id, intent.customer_id)
        await self._payer.conclude(tx, settlement)

    async def _left(self, tx: Tx, row: BankEntry) -> None:
        """Money that left is a refund, if it says so."""
        found = await store.refunds(tx, refund_ids(self.words(row)["text"]))
        if len(found) != 1:
            row.leave(Problem.AMBIGUOUS if found else Problem.NO_REFERENCE)
            return
        intent = await intents.get(tx, found[0].intent_id, lock=True)
        operations = await intents.operations(tx, intent.intent_id)
        refund = next(each for each in operations if each.key == found[0].key)
        if not refund.pending or intent.gateway != Bank.name or refund.money != -row.money:
            row.leave(Problem.UNKNOWN_REFERENCE)
            return
        await self._desk(tx, PAID_OUT, refund.key)
        refund.effective_at = row.value_at
        settlement = Settlement(intent, operations, self._clock.now())
        done = {refund.key: RemoteRefund(refund.amount)}
        settlement.settle(Remote(state=RemoteState.NEW, refunds=done))
        row.match(intent.intent_id, intent.customer_id)
        await self._payer.conclude(tx, settlement)

    async def _desk(self, tx: Tx, sql: str, *args: object) -> None:
        """Lets the gateway know, in the same transaction: it has no server but us."""
        await execute(tx, sql, Bank.name, *args)


def unfit(intent: Intent, row: BankEntry) -> Problem | None:
    """Why a payment cannot be what an entry is for."""
    if intent.currency != row.currency:
        return Problem.OTHER_CURRENCY
    if intent.state in FINAL - GIVEN_UP or row.amount > intent.amount - intent.captured:
        return Problem.TOO_MUCH
    if intent.state not in (*store.OPEN, *GIVEN_UP, State.PROCESSING):
        return Problem.UNKNOWN_REFERENCE
    return None
