"""`scripts/weft demo shop`: a thing is priced, stocked, promoted, bought, shipped, returned and booked.

By the edge of the running mesh, as a shop's staff does it by REST and a buyer by gRPC. What it made stays,
to be explored.
"""

from __future__ import annotations

import asyncio
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from scripts.journey import Journey, StepFailed, tell, travelling
from scripts.shop.buyer import Buyer
from scripts.shop.staff import CURRENCY, PERCENT, PRICE, STOCK, Staff

UNITS, SENT_BACK = 3, 1
MAILS = 4  # To confirm the address, of the order, and of each shipment.
ENTRIES = 6  # Sale and its tax, payment, return and its tax, refund.


async def prepare(staff: Staff) -> None:
    await staff.offer()
    tell(f"1  REST   {staff.title} ({staff.sku}) is for sale at {PRICE} {CURRENCY} without tax")
    await staff.stock_up()
    tell(f"2  REST   {STOCK} of them lie on the shelf")
    await staff.promote()
    tell(f"3  REST   {PERCENT} % off with the coupon {staff.code}")


async def buy(staff: Staff, buyer: Buyer) -> None:
    cart = await buyer.fill(staff.sku, UNITS, staff.code)
    quote = cart.quote
    sums = quote.discount_total, quote.net_total, quote.tax_total, quote.gross_total
    off, net, tax, gross = map(amount, sums)
    tell(f"4  gRPC   a guest's cart: {UNITS} x {PRICE} less {off} is {net}, tax {tax}: {gross}")
    person = buyer.person
    await person.register()
    await person.confirm()
    await person.sign_in()
    tell(f"5  REST   the guest opens an account, follows the mailed link and signs in: {person.email}")
    tell(f"6  gRPC   the guest's cart is the customer's: {await buyer.merge()} units")
    async with buyer.watching():
        order = await buyer.check_out(quote.gross_total)
        captured = amount(order.paid.captured)
        await buyer.heard("OrderConfirmed")
        tell(f"7  gRPC   ordered and confirmed; {captured} captured from a card of the sandbox")
        await deliver(staff, buyer)


async def deliver(staff: Staff, buyer: Buyer) -> None:
    """In two parts; then one of them comes back."""
    await staff.ship(buyer.order_id, UNITS - 1, "RR1")
    await staff.ship(buyer.order_id, 1, "RR2")
    tell(f"8  REST   shipped in two parts: {UNITS - 1}, then 1")
    return_id = await buyer.send_back(SENT_BACK)
    await staff.take_back(buyer.order_id, return_id)
    order = await buyer.refunded()
    await buyer.heard("OrderRefunded")
    tell(f"9  gRPC   {SENT_BACK} came back; {amount(order.paid.refunded)} refunded to the card")


async def look(staff: Staff, buyer: Buyer) -> None:
    """At what everybody knows of it now."""
    subjects = await buyer.subjects(MAILS)
    tell(f"10 SMTP   {len(subjects)} mails came:")
    for subject in subjects:
        tell(f"            {subject}")
    units = await staff.on_hand(STOCK - UNITS + SENT_BACK)
    tell(f"11 REST   in the house: {units}, none of them reserved")
    tell("12 REST   in the ledger, debited and credited:")
    for debit, credit, minor in await staff.entries(buyer.order_id, ENTRIES):
        tell(f"            {debit:<31} {credit:<31} {pounds(minor):>10}")
    debits, credits_ = await staff.balance()
    if debits != credits_:
        raise StepFailed(f"the ledger does not balance: {debits} and {credits_}")
    tell(f"          both sides of it are equal: {pounds(debits)} {CURRENCY}")


def amount(money: Any) -> str:
    return f"{pounds(money.amount_minor)} {money.currency}"


def pounds(minor: int) -> str:
    return f"{Decimal(minor).scaleb(-2):,.2f}"


def explore(person: Journey, buyer: Buyer) -> None:
    tell(f"\nExplore it: {person.edge}/docs")
    tell(f"  order      {buyer.order_id}")
    tell(f"  customer   {person.email}, {person.password}")
    tell(f"  mailbox    {person.edge}/mailbox")


async def main() -> int:
    """Addresses come from the environment that `weft demo` sets."""
    admin = (os.environ["WEFT_ADMIN_EMAIL"], os.environ["WEFT_ADMIN_PASSWORD"])
    async with travelling(os.environ["WEFT_EDGE_URL"], Path(os.environ["WEFT_CA_FILE"]), admin) as person:
        staff, buyer = Staff(person.rest), Buyer(person)
        try:
            await staff.sign_in(*admin)
            await prepare(staff)
            await buy(staff, buyer)
            await look(staff, buyer)
        except (StepFailed, TimeoutError, httpx.HTTPError, grpc.aio.AioRpcError) as error:
            tell(f"stopped: {type(error).__name__}: {error}")
            return 1
        explore(person, buyer)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
