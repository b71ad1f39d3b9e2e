"""What every gateway is tested on: its payments, and the customers who agree to them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.money import Money
from services.chassis.testing import until
from services.payment.domain.remote import Charge, Source
from services.payment.domain.wallet import Change, Reason
from services.payment.gateways.bank import Bank
from services.payment.gateways.gateway import Gateway
from services.payment.gateways.sandbox import Sandbox
from services.payment.gateways.stripe import Stripe
from services.payment.gateways.wallet import WalletGateway
from services.payment.settings import PaymentSettings
from services.payment.store import wallet
from tests.payment.counting import Counting
from tests.payment.stripe_server import stripe_server
from tests.servers import free_port

VISA, DECLINED, ACTION = "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"
Agree = Callable[[Charge], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Bed:
    """A gateway, and what is different about it."""

    gateway: Gateway
    agree: Agree | None = None  # What the customer's bank does; None: it never asks.
    cards: bool = True
    keyed: bool = True  # Whether the server knows idempotency keys, and what was refunded before.
    return_url: str = "https://shop.test/back"
    declined: str = DECLINED
    action: str = ACTION

    async def charge(self, minor: int = 1000, *, capture: bool = False, token: str = VISA) -> Charge:
        """Opened, and not asked for."""
        charge = Charge(
            intent_id=uuid4(),
            customer_id=uuid4(),
            reference="order:1",
            amount=Money(minor, "EUR"),
            capture=capture,
            source=Source(token) if self.cards else None,
            return_url=self.return_url,
        )
        charge = replace(charge, ref=self.gateway.ref(charge))
        if isinstance(self.gateway, WalletGateway):
            await fill(self.gateway, charge)
        return charge if charge.ref else replace(charge, ref=await self.gateway.open(charge))


async def fill(gateway: WalletGateway, charge: Charge) -> None:
    """The customer has enough."""
    credit = Change(
        entry_id=uuid4(), customer_id=charge.customer_id, amount=charge.amount, reason=Reason.CREDIT
    )
    async with gateway._db.transaction() as tx:
        await wallet.change(tx, credit, Clock().now())


@asynccontextmanager
async def sandbox(db: Database) -> AsyncIterator[Bed]:
    gateway = Sandbox(db, "https://edge.test", "")

    async def agree(charge: Charge) -> None:
        await gateway.authenticate(charge.ref, succeed=True, capture=charge.capture)

    yield Bed(gateway=gateway, agree=agree)


@asynccontextmanager
async def purse(db: Database) -> AsyncIterator[Bed]:
    yield Bed(gateway=WalletGateway(db, Clock()), cards=False)


@asynccontextmanager
async def counting(db: Database) -> AsyncIterator[Bed]:
    gateway = Counting()

    async def agree(charge: Charge) -> None:
        gateway.take(gateway.accounts[charge.ref])

    yield Bed(gateway=gateway, agree=agree, declined="tok_decline", action="tok_action")


@asynccontextmanager
async def stripe_shaped(db: Database) -> AsyncIterator[Bed]:
    async with stripe_server() as server, stripe(server.url, stripe_multicapture=True) as gateway:

        async def agree(charge: Charge) -> None:
            server.agree(charge.ref)

        yield Bed(gateway=gateway, agree=agree)


@asynccontextmanager
async def localstripe(db: Database) -> AsyncIterator[Bed]:
    """The server of that name, as a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "localstripe", "--port", str(port), "--from-scratch"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(Path("/tmp") / f"localstripe{port}")},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(auth=("sk_test_weft", "")) as http:

            async def up() -> bool:
                try:
                    return (await http.get(f"{url}/v1/customers")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(up)
            async with stripe(url) as gateway:
                yield Bed(gateway=gateway, keyed=False, return_url="")
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def stripe(url: str, **settings: Any) -> AsyncIterator[Stripe]:
    gateway = Stripe(
        PaymentSettings(
            cards="stripe",
            stripe_api_base=url,
            stripe_api_key="sk_test_weft",
            stripe_webhook_secret="whsec_test",
            call_s=5,
            **settings,
        )
    )
    closing = asyncio.create_task(gateway.close_at_end())
    await asyncio.sleep(0)  # It waits for its end from here on.
    yield gateway
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)


@asynccontextmanager
async def bank(db: Database) -> AsyncIterator[Bank]:
    yield Bank(db, "Weft", "DE89370400440532013000", "COBADEFFXXX")


BEDS = {each.__name__: each for each in (sandbox, purse, counting, stripe_shaped, localstripe)}
