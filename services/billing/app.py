"""Puts the service together."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from services.billing.asking import Asking
from services.billing.billing import Biller
from services.billing.changing import Changing
from services.billing.chasing import Chasing
from services.billing.crediting import Crediting
from services.billing.documents.composing import Composer
from services.billing.documents.filing import Filing
from services.billing.documents.page import Style
from services.billing.documents.pressing import Press
from services.billing.events import Hearing, Leaving
from services.billing.issuing import Issuer
from services.billing.reports.projecting import Projecting
from services.billing.running import Runner
from services.billing.seller_settings import SellerSettings
from services.billing.service import documents
from services.billing.service.coupons import Coupons
from services.billing.service.credit_notes import CreditNotes
from services.billing.service.credits import Credits
from services.billing.service.dunnings import Dunnings
from services.billing.service.invoices import Invoices
from services.billing.service.plans import Plans
from services.billing.service.profiles import Profiles
from services.billing.service.reports import Reports
from services.billing.service.runs import BillingRuns
from services.billing.service.shared import Shared
from services.billing.service.statements import Statements
from services.billing.service.subscriptions import Subscriptions
from services.billing.service.tax import TaxDesk
from services.billing.service.tax_numbers import VatNumbers, told
from services.billing.service.tax_rates import TaxRates
from services.billing.service.usages import Usages
from services.billing.settings import PREFIX, BillingSettings
from services.billing.store.plan import TermsOf
from services.billing.tax.confirming import Confirming
from services.billing.tax.determining import Taxes
from services.billing.tax.vies import Vies
from services.billing.tax_settings import TaxSettings
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.chassis.inbox import Every, Handler
from weft.billing.v1 import events_pb2 as events
from weft.billing.v1.billing_run_pb2_grpc import add_BillingRunServiceServicer_to_server
from weft.billing.v1.coupon_pb2_grpc import add_CouponServiceServicer_to_server
from weft.billing.v1.credit_note_pb2_grpc import add_CreditNoteServiceServicer_to_server
from weft.billing.v1.credit_pb2_grpc import add_CreditServiceServicer_to_server
from weft.billing.v1.document_pb2_grpc import add_DocumentServiceServicer_to_server
from weft.billing.v1.dunning_pb2_grpc import add_DunningServiceServicer_to_server
from weft.billing.v1.invoice_pb2_grpc import add_InvoiceServiceServicer_to_server
from weft.billing.v1.plan_pb2_grpc import add_PlanServiceServicer_to_server
from weft.billing.v1.profile_pb2_grpc import add_BillingProfileServiceServicer_to_server
from weft.billing.v1.report_pb2_grpc import add_ReportServiceServicer_to_server
from weft.billing.v1.statement_pb2_grpc import add_StatementServiceServicer_to_server
from weft.billing.v1.subscription_pb2_grpc import add_SubscriptionServiceServicer_to_server
from weft.billing.v1.tax_pb2_grpc import add_TaxServiceServicer_to_server
from weft.billing.v1.tax_rate_pb2_grpc import add_TaxRateServiceServicer_to_server
from weft.billing.v1.usage_pb2_grpc import add_UsageServiceServicer_to_server
from weft.billing.v1.vat_number_pb2_grpc import add_VatNumberServiceServicer_to_server
from weft.identity.v1.events_pb2 import UserDeleted
from weft.order.v1.events_pb2 import OrderConfirmed, OrderRefunded
from weft.payment.v1.events_pb2 import (
    DisputeLost,
    PaymentCancelled,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
)


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(BillingSettings, environ, PREFIX)
    seller, of_taxes = load(SellerSettings, environ, PREFIX), load(TaxSettings, environ, PREFIX)
    taxes = Taxes(tools.clock, seller.seller_country, of_taxes)
    hold = timedelta(days=settings.tax_hold_days if of_taxes.vies_url else 0)
    shared, hearing = shared_of(tools, settings, Issuer(taxes, hold)), Hearing(tools.clock)
    confirming = Confirming(tools.db, tools.clock, Vies(of_taxes), of_taxes.vies_poll_s, told)
    filing = filing_of(tools, seller)
    return Parts(
        servicers={
            add_TaxServiceServicer_to_server: TaxDesk(shared, taxes),
            add_TaxRateServiceServicer_to_server: TaxRates(shared),
            add_VatNumberServiceServicer_to_server: VatNumbers(shared, confirming),
            add_DocumentServiceServicer_to_server: documents.Documents(filing),
            add_ReportServiceServicer_to_server: Reports(tools.db, tools.clock, seller.seller_time_zone),
            **servicers_of(shared),
        },
        consumers={
            PaymentCaptured: hearing.captured,
            PaymentRefunded: hearing.refunded,
            DisputeLost: hearing.dispute_lost,
            PaymentFailed: hearing.failed,
            PaymentCancelled: hearing.cancelled,
            UserDeleted: Leaving(shared.changing).left,
            **projections_of(seller, of_taxes),
        },
        loops=[shared.runner.run, shared.chasing.run, confirming.run, filing.press.run],
    )


def shared_of(tools: Tools, settings: BillingSettings, issuer: Issuer) -> Shared:
    db, clock, terms, crediting = tools.db, tools.clock, TermsOf(), Crediting()
    biller = Biller(db, clock, terms, issuer)
    return Shared(
        db=db,
        clock=clock,
        mesh=tools.mesh,
        settings=settings,
        terms=terms,
        issuer=issuer,
        biller=biller,
        crediting=crediting,
        changing=Changing(db, clock, terms, issuer, biller, crediting),
        runner=Runner(db, clock, biller, settings),
        chasing=Chasing(db, clock, Asking(tools.mesh, clock), settings),
        page_key=tools.settings.mesh_key,
    )


def servicers_of(shared: Shared) -> Mapping[Callable[[Any, Any], None], object]:
    """Plans, subscriptions, invoices, and what pays them."""
    return {
        add_BillingProfileServiceServicer_to_server: Profiles(shared),
        add_PlanServiceServicer_to_server: Plans(shared),
        add_SubscriptionServiceServicer_to_server: Subscriptions(shared),
        add_UsageServiceServicer_to_server: Usages(shared),
        add_CouponServiceServicer_to_server: Coupons(shared),
        add_CreditServiceServicer_to_server: Credits(shared),
        add_InvoiceServiceServicer_to_server: Invoices(shared),
        add_CreditNoteServiceServicer_to_server: CreditNotes(shared),
        add_DunningServiceServicer_to_server: Dunnings(shared),
        add_BillingRunServiceServicer_to_server: BillingRuns(shared),
        add_StatementServiceServicer_to_server: Statements(shared),
    }


def projections_of(seller: SellerSettings, taxes: TaxSettings) -> Mapping[type[Message] | Every, Handler]:
    """What the figures of reports are kept by."""
    figures = Projecting(seller, one_stop_shop=taxes.one_stop_shop)
    return {
        events.InvoiceFinalised: figures.invoice_finalised,
        events.CreditNoteIssued: figures.credit_note_issued,
        events.InvoiceVoided: figures.invoice_voided,
        events.SubscriptionStarted: figures.subscription_started,
        events.SubscriptionChanged: figures.subscription_changed,
        events.SubscriptionPaused: figures.subscription_paused,
        events.SubscriptionResumed: figures.subscription_resumed,
        events.SubscriptionCancelled: figures.subscription_cancelled,
        OrderConfirmed: figures.order_confirmed,
        OrderRefunded: figures.order_refunded,
    }


def filing_of(tools: Tools, seller: SellerSettings) -> Filing:
    style = Style(accent=seller.document_accent, logo=seller.logo(), footer=seller.document_footer)
    return Filing(
        db=tools.db,
        clock=tools.clock,
        press=Press(),
        composer=Composer(seller),
        style=style,
        told=documents.told,
    )
