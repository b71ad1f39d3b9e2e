"""Billing beside the real payment and the real notification: what one asks, the others understand."""

from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import pytest

from services.billing.app import build
from services.chassis.clock import FakeClock
from services.chassis.host import Build
from services.chassis.testing import laboratory
from services.notification.app import build as notification
from services.payment.app import build as payment
from tests.billing.standins import Mail, Payment
from tests.billing.world import POLL_S, START, World, flat, state
from tests.servers import Shared
from weft.notification.v1.notification_pb2 import ListMessagesRequest
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub
from weft.payment.v1.method_pb2 import AttachMethodRequest
from weft.payment.v1.method_pb2_grpc import MethodServiceStub


@pytest.fixture
async def together(servers: Shared) -> AsyncIterator[World]:
    own = {"WEFT_BILLING_VIES_URL": "", "WEFT_BILLING_POLL_S": str(POLL_S)}
    builds: dict[str, Build] = {
        "payment": partial(payment, environ={"WEFT_PAYMENT_CARDS": "sandbox"}),
        "notification": partial(notification, environ={}),
        "billing": partial(build, environ=own),
    }
    clock = FakeClock(START)
    async with laboratory(
        builds, postgres_url=servers.postgres(), nats_url=servers.account(), clock=clock
    ) as lab:
        yield World(lab, clock, Payment(), Mail())  # type: ignore[abstract] # Nobody asks the stand-ins.


async def test_a_card_pays_an_invoice_and_one_that_is_declined_is_followed_by_a_mail(together: World) -> None:
    plan_id = await together.plan(flat("20", tax="CHARGE_TAX_STANDARD"))
    methods = MethodServiceStub(together.lab.channel)
    customers = {}
    for token in ("pm_card_visa", "pm_card_chargeCustomerFail"):
        customers[token] = await together.customer(netDays=0)
        attach = AttachMethodRequest(method_id=str(uuid4()), customer_id=customers[token], card_token=token)
        await methods.AttachMethod(attach, metadata=together.staff)
    good = await together.subscribe(customers["pm_card_visa"], plan_id)
    bad = await together.subscribe(customers["pm_card_chargeCustomerFail"], plan_id)

    async def paid() -> bool:
        return state(await together.invoice(good.last_invoice_id)) == "PAID"

    await together.settles(paid)
    invoice = await together.invoice(good.last_invoice_id)
    assert [(each.gateway, each.amount.amount_minor) for each in invoice.payments] == [("sandbox", 2380)]
    await together.pass_time(days=1)
    mails = NotificationServiceStub(together.lab.channel)

    async def reminded() -> bool:
        listed = await mails.ListMessages(ListMessagesRequest(), metadata=together.staff)
        return [each.template for each in listed.messages] == ["invoice_reminder"]

    await together.settles(reminded)
    assert state(await together.invoice(bad.last_invoice_id)) == "OPEN"
    assert await together.told("DunningFinished", good.last_invoice_id) == 1
