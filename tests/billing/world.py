"""What tests of billing have in common: a lab with a payment and a mail that do as they are told."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from services.billing.app import build
from services.chassis.clock import FakeClock
from services.chassis.host import Build
from services.chassis.testing import Lab, laboratory, until
from tests.billing.standins import Mail, Payment
from tests.servers import Shared
from weft.billing.v1 import (
    credit_note_pb2,
    invoice_messages_pb2,
    plan_pb2,
    profile_pb2,
    subscription_messages_pb2,
    usage_pb2,
)
from weft.billing.v1.billing_run_pb2_grpc import BillingRunServiceStub
from weft.billing.v1.coupon_pb2_grpc import CouponServiceStub
from weft.billing.v1.credit_note_pb2_grpc import CreditNoteServiceStub
from weft.billing.v1.credit_pb2_grpc import CreditServiceStub
from weft.billing.v1.dunning_pb2_grpc import DunningServiceStub
from weft.billing.v1.invoice_pb2_grpc import InvoiceServiceStub
from weft.billing.v1.plan_pb2_grpc import PlanServiceStub
from weft.billing.v1.profile_pb2_grpc import BillingProfileServiceStub
from weft.billing.v1.statement_pb2_grpc import StatementServiceStub
from weft.billing.v1.subscription_pb2_grpc import SubscriptionServiceStub
from weft.billing.v1.usage_pb2_grpc import UsageServiceStub

START = datetime(2026, 1, 31, 10, tzinfo=UTC)
POLL_S = 5.0
NOW = subscription_messages_pb2.EFFECTIVE_FROM_NOW
PERIOD_END = subscription_messages_pb2.EFFECTIVE_FROM_PERIOD_END


class World:
    """A billing, and words to say to it."""

    def __init__(self, lab: Lab, clock: FakeClock, payment: Payment, mail: Mail) -> None:
        self.lab, self.clock, self.payment, self.mail = lab, clock, payment, mail
        self.profiles = BillingProfileServiceStub(lab.channel)
        self.plans = PlanServiceStub(lab.channel)
        self.subscriptions = SubscriptionServiceStub(lab.channel)
        self.usage = UsageServiceStub(lab.channel)
        self.coupons = CouponServiceStub(lab.channel)
        self.credits = CreditServiceStub(lab.channel)
        self.invoices = InvoiceServiceStub(lab.channel)
        self.credit_notes = CreditNoteServiceStub(lab.channel)
        self.dunning = DunningServiceStub(lab.channel)
        self.runs = BillingRunServiceStub(lab.channel)
        self.statements = StatementServiceStub(lab.channel)

    @property
    def staff(self) -> tuple[tuple[str, str], ...]:
        return self.lab.bearer()

    @property
    def db(self) -> Any:
        return self.lab.db("billing")

    async def pass_time(self, **span: float) -> None:
        """Lets time pass at once; what is due then is done meanwhile."""
        self.clock.advance(timedelta(**span).total_seconds())

    async def later(self, **span: float) -> int:
        """As `pass_time`, in the middle of something else."""
        await self.pass_time(**span)
        return 0

    async def settles(self, condition: Any) -> Any:
        """The first true value; loops wake up as it is waited for."""

        async def asked() -> Any:
            self.clock.advance(POLL_S)
            return await condition()

        return await until(asked)

    async def customer(self, country: str = "DE", zone: str = "UTC", **terms: Any) -> str:
        """Makes a customer, who has a year to pay unless said otherwise. Returns its id."""
        customer_id = str(uuid4())
        address = profile_pb2.Address(name="Ann Example", city="Berlin", email="ann@example.com")
        request = profile_pb2.PutBillingProfileRequest(
            customer_id=customer_id, country=country, time_zone=zone, address=address
        )
        await self.profiles.PutBillingProfile(request, metadata=self.staff)
        made = ParseDict({"netDays": 365, **terms}, profile_pb2.BillingTerms())
        await self.profiles.SetBillingTerms(
            profile_pb2.SetBillingTermsRequest(customer_id=customer_id, terms=made), metadata=self.staff
        )
        return customer_id

    async def plan(self, *charges: dict[str, Any], **terms: Any) -> str:
        """Makes a plan; charges are written as JSON. Returns its id."""
        plan_id = str(uuid4())
        request = plan_pb2.CreatePlanRequest(plan_id=plan_id, code=f"p-{plan_id}", title="Plan")
        request.terms.CopyFrom(wanted(*charges, **terms))
        await self.plans.CreatePlan(request, metadata=self.staff)
        return plan_id

    async def subscribe(
        self, customer_id: str, plan_id: str, **rest: Any
    ) -> subscription_messages_pb2.Subscription:
        request = subscription_messages_pb2.CreateSubscriptionRequest(
            subscription_id=str(uuid4()), customer_id=customer_id, plan_id=plan_id, **rest
        )
        answer = await self.subscriptions.CreateSubscription(request, metadata=self.staff)
        made: subscription_messages_pb2.Subscription = answer.subscription
        return made

    async def subscription(self, subscription_id: str) -> subscription_messages_pb2.Subscription:
        request = subscription_messages_pb2.GetSubscriptionRequest(subscription_id=subscription_id)
        answer = await self.subscriptions.GetSubscription(request, metadata=self.staff)
        found: subscription_messages_pb2.Subscription = answer.subscription
        return found

    async def change(
        self, subscription_id: str, **rest: Any
    ) -> subscription_messages_pb2.ChangeSubscriptionResponse:
        etag = (await self.subscription(subscription_id)).etag
        request = subscription_messages_pb2.ChangeSubscriptionRequest(
            subscription_id=subscription_id, etag=etag, **rest
        )
        made: subscription_messages_pb2.ChangeSubscriptionResponse = (
            await self.subscriptions.ChangeSubscription(request, metadata=self.staff)
        )
        return made

    async def cancel(
        self, subscription_id: str, *, now: bool = True, **rest: Any
    ) -> subscription_messages_pb2.Subscription:
        request = subscription_messages_pb2.CancelSubscriptionRequest(
            subscription_id=subscription_id, effective_from=NOW if now else PERIOD_END, **rest
        )
        answer = await self.subscriptions.CancelSubscription(request, metadata=self.staff)
        made: subscription_messages_pb2.Subscription = answer.subscription
        return made

    async def used(self, subscription_id: str, *values: str, **rest: Any) -> int:
        """Records usage of the meter `calls`, now unless `time` says otherwise."""
        events = [
            usage_pb2.UsageEvent(
                subscription_id=subscription_id, event_id=str(uuid4()), meter="calls", value=value, **rest
            )
            for value in values
        ]
        request = usage_pb2.RecordUsageRequest(events=events)
        return int((await self.usage.RecordUsage(request, metadata=self.staff)).recorded)

    async def invoice(self, invoice_id: str) -> invoice_messages_pb2.Invoice:
        request = invoice_messages_pb2.GetInvoiceRequest(invoice_id=invoice_id)
        found: invoice_messages_pb2.Invoice = (
            await self.invoices.GetInvoice(request, metadata=self.staff)
        ).invoice
        return found

    async def invoices_of(self, customer_id: str) -> list[invoice_messages_pb2.Invoice]:
        """Whole, oldest first."""
        request = invoice_messages_pb2.ListInvoicesRequest(
            customer_id=customer_id, page_size=200, order_by="create_time"
        )
        listed = (await self.invoices.ListInvoices(request, metadata=self.staff)).invoices
        whole = [await self.invoice(each.invoice_id) for each in listed]
        return sorted(whole, key=lambda each: (each.issue_time.seconds, each.number))

    async def billed(self, customer_id: str, count: int) -> list[invoice_messages_pb2.Invoice]:
        """Waits until a customer has so many invoices."""

        async def there() -> list[invoice_messages_pb2.Invoice] | None:
            found = await self.invoices_of(customer_id)
            return found if len(found) >= count else None

        found: list[invoice_messages_pb2.Invoice] = await self.settles(there)
        assert len(found) == count
        return found

    async def draft(self, customer_id: str, *lines: dict[str, Any], **rest: Any) -> str:
        """Makes a draft of lines, each `{"price": "10"}` and more. Returns its id."""
        invoice_id = str(uuid4())
        request = invoice_messages_pb2.CreateInvoiceRequest(
            invoice_id=invoice_id, customer_id=customer_id, currency="EUR", lines=map(line, lines), **rest
        )
        await self.invoices.CreateInvoice(request, metadata=self.staff)
        return invoice_id

    async def finalise(self, invoice_id: str) -> invoice_messages_pb2.Invoice:
        request = invoice_messages_pb2.FinaliseInvoiceRequest(invoice_id=invoice_id)
        made: invoice_messages_pb2.Invoice = (
            await self.invoices.FinaliseInvoice(request, metadata=self.staff)
        ).invoice
        return made

    async def open_invoice(self, price: str = "10", **terms: Any) -> invoice_messages_pb2.Invoice:
        """Of a new customer, untaxed."""
        customer_id = await self.customer(**{"taxExempt": True, **terms})
        return await self.finalise(await self.draft(customer_id, {"price": price}))

    async def pay(
        self, invoice_id: str, minor: int, payment_id: str = "", currency: str = "EUR"
    ) -> invoice_messages_pb2.Invoice:
        request = invoice_messages_pb2.RecordInvoicePaymentRequest(
            invoice_id=invoice_id, payment_id=payment_id or str(uuid4())
        )
        request.amount.amount_minor, request.amount.currency = minor, currency
        made: invoice_messages_pb2.Invoice = (
            await self.invoices.RecordInvoicePayment(request, metadata=self.staff)
        ).invoice
        return made

    async def credit(
        self, invoice_id: str, nets: dict[int, int] | None = None, note_id: str = ""
    ) -> credit_note_pb2.CreditNote:
        """Net minor units by position; None: all that is left."""
        request = credit_note_pb2.IssueCreditNoteRequest(
            credit_note_id=note_id or str(uuid4()), invoice_id=invoice_id, reason="Goodwill"
        )
        for position, net in (nets or {}).items():
            taken = request.lines.add(position=position)
            taken.net.amount_minor, taken.net.currency = net, "EUR"
        made: credit_note_pb2.CreditNote = (
            await self.credit_notes.IssueCreditNote(request, metadata=self.staff)
        ).credit_note
        return made

    async def standing(self, customer_id: str) -> str:
        request = profile_pb2.GetBillingProfileRequest(customer_id=customer_id)
        profile = (await self.profiles.GetBillingProfile(request, metadata=self.staff)).profile
        return profile_pb2.Standing.Name(profile.standing).removeprefix("STANDING_")

    async def numbers(self, series: str = "INV") -> list[int]:
        """All that were given, in order of time and then of number."""
        sql = "select number from invoice where series = $1 and number is not null order by issued_at, number"
        return [row["number"] for row in await self.db.fetch(sql, series)]

    async def told(self, type_name: str, key: str = "") -> int:
        """How many events of a type there are."""
        sql = "select count(*) from event where type = 'weft.billing.v1.' || $1 and ($2 = '' or key = $2)"
        return int(await self.db.fetchval(sql, type_name, key))


@asynccontextmanager
async def world(servers: Shared, start: datetime = START, **settings: str) -> AsyncIterator[World]:
    """`settings` as in BillingSettings."""
    own = {"WEFT_BILLING_VIES_URL": "", "WEFT_BILLING_POLL_S": str(POLL_S)}
    own |= {f"WEFT_BILLING_{name.upper()}": value for name, value in settings.items()}
    clock, payment, mail = FakeClock(start), Payment(), Mail()  # type: ignore[abstract]
    builds: dict[str, Build] = {
        "billing": partial(build, environ=own),
        "till": payment.build,
        "post": mail.build,
    }
    postgres, nats = servers.postgres(), servers.account()
    async with laboratory(builds, postgres_url=postgres, nats_url=nats, clock=clock) as lab:
        yield World(lab, clock, payment, mail)


def wanted(*charges: dict[str, Any], **terms: Any) -> plan_pb2.PlanTerms:
    """Terms in EUR, of four weeks: periods of the same length all year."""
    made = {"currency": "EUR", "intervalUnit": "INTERVAL_UNIT_WEEK", "intervalCount": 4}
    made |= {**terms, "charges": list(charges)}
    return ParseDict(made, plan_pb2.PlanTerms())


def flat(price: str, **rest: Any) -> dict[str, Any]:
    """So much a period, in advance, untaxed unless said otherwise."""
    made = {"code": "base", "title": "Base", "basis": "CHARGE_BASIS_FLAT", "inAdvance": True}
    return {**made, "unitPrice": price, "tax": "CHARGE_TAX_EXEMPT", **rest}


def seats(price: str, **rest: Any) -> dict[str, Any]:
    return flat(price, **{"code": "seat", "title": "Seat", "basis": "CHARGE_BASIS_SEATS", **rest})


def metered(price: str, **rest: Any) -> dict[str, Any]:
    made = {"code": "calls", "title": "Calls", "basis": "CHARGE_BASIS_USAGE", "meter": "calls"}
    return flat(price, **{**made, "inAdvance": False, **rest})


def line(given: dict[str, Any]) -> invoice_messages_pb2.NewInvoiceLine:
    made = {"lineId": str(uuid4()), "description": "Thing", "tax": "CHARGE_TAX_STANDARD", **given}
    made["unitPrice"] = {"amount": made.pop("price"), "currency": made.pop("currency", "EUR")}
    return ParseDict(made, invoice_messages_pb2.NewInvoiceLine())


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def state(invoice: invoice_messages_pb2.Invoice) -> str:
    return invoice_messages_pb2.InvoiceState.Name(invoice.state).removeprefix("INVOICE_STATE_")


def amounts(lines: Iterable[invoice_messages_pb2.InvoiceLine]) -> list[int]:
    return [each.amount.amount_minor for each in lines]
