"""The loop of dunning: takes the steps of each chase when they come, and has done outside what they ask for.

A step is taken once, in one transaction with what it makes of the invoice and its customer. What is to be
done outside (charging, writing) is noted there, and done by its derived id until that is known to be done: so
a crash in between repeats a call, and neither a charge nor a mail.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from services.billing import settling
from services.billing.asking import Asking, Done
from services.billing.domain.dunning import (
    STANDING_OF,
    STEPS_MAX,
    ActionState,
    Outcome,
    Step,
    StepKind,
    begun_again,
    policy_of,
    steps,
)
from services.billing.settings import BillingSettings
from services.billing.store import dunning as store, invoice as invoices
from services.chassis.clock import Clock
from services.chassis.db import Connection, Database
from services.chassis.events import Provenance, emit, provenance
from weft.billing.v1.events_pb2 import InvoiceOverdue
from weft.money.v1.money_pb2 import Money

LEASE = "billing-dunning"
AGAIN = timedelta(minutes=5)  # Until what was not heard of is done again: longer than any call takes.
TRIES_MAX = 100  # A service that is away for eight hours; then people look.
ACTIONS = UUID("5d3c2f1e-7f0a-4f55-9a1c-0d6a5b0e9c11")  # Of ids derived from invoice, kind and number.

log = logging.getLogger("weft.billing")


class Chasing:
    """One replica's share; all but one wait for the lease."""

    def __init__(self, db: Database, clock: Clock, asking: Asking, settings: BillingSettings) -> None:
        self._db, self._clock, self._asking, self._settings = db, clock, asking, settings
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something is to be done sooner than was thought."""
        self._poked.set()

    async def run(self) -> None:
        """For ever."""
        provenance.set(Provenance("service:billing"))
        async with self._db.leases.hold(LEASE) as lease:
            while True:
                lease.check()
                self._poked.clear()
                if not await self.round():
                    await self._sleep()

    async def _sleep(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(self._settings.poll_s))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait({sleeping, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()

    async def round(self) -> int:
        """Takes what is due. Returns how much that was."""
        now = self._clock.now()
        async with self._db.fast() as tx:
            due = await store.due(tx, now)
            for row in due:
                await self._take(tx, dict(row), now)
        async with self._db.fast() as tx:
            actions = await store.take(tx, now, now + AGAIN)
        for action in actions:
            await self._do(action)
        return len(due) + len(actions)

    async def _take(self, tx: Connection, row: dict[str, Any], now: datetime) -> None:
        """Takes the steps of one chase whose time has come; it and its invoice are locked."""
        planned = _planned(row)
        come = [step for step in planned[row["step"] :] if step.at <= now]
        following = planned[row["step"] + len(come) :]
        before = row["standing"]
        for number, step in enumerate(come, row["step"]):
            late = any(other.kind is step.kind for other in come[number - row["step"] + 1 :])
            await self._step(tx, row, step, number, late, now)
        next_at = following[0].at if following else None
        await store.move(tx, row["invoice_id"], row["step"] + len(come), next_at, row)
        if row["standing"] != before:
            await settling.restand(tx, row["customer_id"], row["invoice_id"])

    async def _step(
        self, tx: Connection, row: dict[str, Any], step: Step, number: int, late: bool, now: datetime
    ) -> None:
        """`late`: another of its kind has come as well, so this one is left out."""
        if step.kind in STANDING_OF:
            row["standing"] = STANDING_OF[step.kind]
            if step.kind is StepKind.OVERDUE:
                await emit(tx, _overdue(row))
        elif step.kind is StepKind.GIVE_UP:
            await self._give_up(tx, row, now)
        elif not late and step.kind is StepKind.REMIND:
            nth = row["restarts"] * STEPS_MAX + number
            await self._note(tx, row["invoice_id"], (StepKind.REMIND, nth, row["amount"]), now)
        elif not late and not await store.under_way(tx, row["invoice_id"]):
            row["attempts"] += 1
            await self._note(tx, row["invoice_id"], (StepKind.ATTEMPT, row["attempts"], row["amount"]), now)

    async def _note(
        self, tx: Connection, invoice_id: UUID, what: tuple[str, int, int], now: datetime
    ) -> None:
        action_id = uuid5(ACTIONS, f"{invoice_id}:{what[0]}:{what[1]}")
        await store.act(tx, action_id, invoice_id, what, now)

    async def _give_up(self, tx: Connection, row: Mapping[str, Any], now: datetime) -> None:
        invoice = await invoices.lock(tx, row["invoice_id"])
        if policy_of(row["settings"]).write_off:
            await settling.write_off(tx, invoice, Outcome.WRITTEN_OFF, now)
        else:
            await settling.finished(tx, invoice, Outcome.GIVEN_UP, now, clear=False)

    async def attempt(self, tx: Connection, invoice_id: UUID, due: int, now: datetime) -> None:
        """An attempt that somebody asked for, unless one is under way; the invoice is locked."""
        if not await store.under_way(tx, invoice_id):
            number = await store.tried(tx, invoice_id)
            await self._note(tx, invoice_id, (StepKind.ATTEMPT, number, due), now)

    async def _do(self, action: Any) -> None:
        """One call outside. What is not known to be done is done again by its id."""
        async with self._db.fast() as tx:
            chased = await store.chased(tx, action["invoice_id"])
        try:
            done = await self._asking.do(action, chased)
        except Exception:  # A bug, in one of many: the others are none the worse.
            log.exception("an action failed", extra={"facts": {"action": str(action["action_id"])}})
            done = None
        if done is None and action["tries"] >= TRIES_MAX:
            done = Done(ActionState.FAILED, "given up")
        if done is None:
            return
        async with self._db.fast() as tx:
            if done.state is ActionState.CALLED:
                await store.called(tx, action["action_id"])
            else:
                await store.end(tx, action["action_id"], done.state, done.detail, self._clock.now())


def _planned(row: Mapping[str, Any]) -> list[Step]:
    policy = policy_of(row["settings"])
    if row["restarted_at"]:
        return begun_again(policy, row["restarted_at"])
    return steps(policy, row["collection"], row["issued_at"], row["due_at"])


def _overdue(row: Mapping[str, Any]) -> InvoiceOverdue:
    return InvoiceOverdue(
        invoice_id=str(row["invoice_id"]),
        customer_id=str(row["customer_id"]),
        amount_due=Money(amount_minor=row["amount"], currency=row["currency"]),
        due_time=settling.stamp(row["due_at"]),
    )
