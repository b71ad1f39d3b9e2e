"""A card gateway for tests that counts what it really took, and fails in every way that a gateway can."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

from services.chassis.money import Money
from services.payment.domain.remote import (
    Charge,
    Decline,
    GatewayAway,
    GatewayRefused,
    Kept,
    Notice,
    Remote,
    RemoteRefund,
    RemoteState,
    Source,
)


class Fault(Enum):
    """What goes wrong with one call."""

    REFUSED_CONNECTION = "never reached it"
    CUT_AFTER = "did it, and the connection was cut"
    SLOW = "did it, after we had stopped waiting"
    ASLEEP = "answers never, and does nothing"


@dataclass
class Account:
    """A payment at the gateway."""

    intent_id: UUID
    amount: int
    capture: bool
    state: RemoteState = RemoteState.NEW
    captured: int = 0
    refunds: dict[str, int] = field(default_factory=dict)
    captures: dict[str, int] = field(default_factory=dict)
    takings: int = 0  # How often money was held or taken: more than once is what must never be.
    action: bool = False
    decline: str = ""


class Counting:
    """Keeps to the interface as a remote server would: what it has done stays done, whoever is killed."""

    name = "counting"
    several_captures = True

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.faults: list[Fault | None] = []  # For the next calls, in order.
        self.asked: list[str] = []
        self.forgetful = False  # It knows no keys, as a server does after a day or a restart.
        self.late: list[Callable[[], object]] = []  # What a slow call will still do.

    def check(self, amount: Money) -> None:
        """Any amount will do."""

    def ref(self, charge: Charge) -> str:
        return ""

    async def open(self, charge: Charge) -> str:
        return str(await self._call("open", lambda: self._open(charge)))

    async def authorise(self, charge: Charge) -> Remote:
        return await self._moved("authorise", charge, lambda: self._authorise(self.accounts[charge.ref]))

    async def capture(self, charge: Charge, key: str, amount: int, *, final: bool) -> Remote:
        account = self.accounts[charge.ref]
        return await self._moved("capture", charge, lambda: self._capture(account, key, amount, final))

    async def void(self, charge: Charge, key: str) -> Remote:
        return await self._moved("void", charge, lambda: self._void(self.accounts[charge.ref]))

    async def refund(self, charge: Charge, key: str, amount: int) -> Remote:
        account = self.accounts[charge.ref]
        return await self._moved("refund", charge, lambda: self._refund(account, key, amount))

    async def look(self, charge: Charge) -> Remote:
        return await self._moved("look", charge, lambda: None)

    async def keep(self, customer_id: UUID, method_id: UUID, token: str, known: str) -> Kept:
        return Kept(source=Source(token), brand="visa", last4="4242", expiry="2035-12")

    def notice(self, header: Callable[[str], str], body: bytes, now: datetime) -> Notice | None:
        return Notice(notice_id=body.decode(), kind="test", ref=header("x-ref"))

    def of(self, intent_id: UUID) -> list[Account]:
        """One that was opened in vain is among them."""
        return [each for each in self.accounts.values() if each.intent_id == intent_id]

    async def _moved(self, what: str, charge: Charge, act: Callable[[], object]) -> Remote:
        await self._call(what, act)
        return self.remote(self.accounts[charge.ref])

    async def _call(self, what: str, act: Callable[[], Any]) -> Any:
        self.asked.append(what)
        fault = self.faults.pop(0) if self.faults else None
        if fault is Fault.REFUSED_CONNECTION:
            raise GatewayAway("connection refused")
        if fault is Fault.ASLEEP:
            await asyncio.Event().wait()
        if fault is Fault.SLOW:
            self.late.append(act)
            raise GatewayAway("timeout")
        done = act()
        if fault is Fault.CUT_AFTER:
            raise GatewayAway("connection cut")
        return done

    def finish_late(self) -> None:
        """Slow calls do what they were asked."""
        late, self.late = self.late, []
        for act in late:
            try:
                act()
            except GatewayRefused:
                continue

    def _open(self, charge: Charge) -> str:
        ref = f"pay_{uuid4().hex}"
        token = charge.source.token if charge.source else ""
        self.accounts[ref] = Account(
            charge.intent_id,
            charge.amount.minor,
            charge.capture,
            action="action" in token,
            decline="declined" if "decline" in token else "",
        )
        return ref

    def _authorise(self, account: Account) -> None:
        if account.state != RemoteState.NEW:
            return
        if account.decline:
            account.state = RemoteState.DECLINED
        elif account.action:
            account.state = RemoteState.ACTION
        else:
            self.take(account)

    def take(self, account: Account) -> None:
        """The customer's bank agrees."""
        account.takings += 1
        account.state = RemoteState.TAKEN if account.capture else RemoteState.AUTHORISED
        account.captured = account.amount if account.capture else 0

    def _capture(self, account: Account, key: str, amount: int, final: bool) -> None:
        if key in account.captures and not self.forgetful:
            return
        if account.state != RemoteState.AUTHORISED or account.captured + amount > account.amount:
            raise GatewayRefused("not_capturable")
        account.captures[key] = amount
        account.captured += amount
        if final or account.captured == account.amount:
            account.state = RemoteState.TAKEN

    def _void(self, account: Account) -> None:
        if account.state in (RemoteState.NEW, RemoteState.ACTION, RemoteState.AUTHORISED):
            account.state = RemoteState.TAKEN if account.captured else RemoteState.VOIDED

    def _refund(self, account: Account, key: str, amount: int) -> None:
        if key in account.refunds and not self.forgetful:
            return
        if amount > account.captured - sum(account.refunds.values()):
            raise GatewayRefused("charge_already_refunded")
        account.refunds[key] = account.refunds.get(key, 0) + amount

    def remote(self, account: Account) -> Remote:
        refunds: Mapping[str, RemoteRefund] = {
            key: RemoteRefund(amount) for key, amount in account.refunds.items()
        }
        return Remote(
            state=account.state,
            captured=account.captured,
            refunds=refunds,
            redirect_url="https://bank.test/3ds" if account.state == RemoteState.ACTION else "",
            decline=Decline("declined") if account.state == RemoteState.DECLINED else None,
        )
