"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import BadSetting, load
from services.chassis.host import Parts, Tools
from services.payment.domain.sealing import Sealer
from services.payment.events import Erasure
from services.payment.gateways.bank import Bank
from services.payment.gateways.gateway import Gateway
from services.payment.gateways.sandbox import Sandbox
from services.payment.gateways.stripe import Stripe
from services.payment.gateways.wallet import WalletGateway
from services.payment.matching import Matcher
from services.payment.paying import Means, Payer
from services.payment.recovering import Recovery
from services.payment.service.disputes import Disputes
from services.payment.service.intents import Intents
from services.payment.service.methods import Methods
from services.payment.service.refunds import Refunds
from services.payment.service.sandboxes import Sandboxes
from services.payment.service.shared import Shared
from services.payment.service.statements import Statements
from services.payment.service.wallets import Wallets
from services.payment.service.webhooks import Webhooks
from services.payment.settings import PREFIX, PaymentSettings
from weft.identity.v1.events_pb2 import UserDeleted
from weft.payment.v1 import (
    dispute_pb2_grpc,
    intent_pb2_grpc,
    method_pb2_grpc,
    refund_pb2_grpc,
    sandbox_pb2_grpc,
    statement_pb2_grpc,
    wallet_pb2_grpc,
    webhook_pb2_grpc,
)

DEVELOPMENT_IBAN = "DE89370400440532013000"  # The example of the IBAN registry: nobody's account.


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(PaymentSettings, environ, PREFIX)
    means = Means(
        db=tools.db,
        clock=tools.clock,
        gateways={each.name: each for each in gateways(tools, settings)},
        sealer=Sealer(settings.key or tools.settings.mesh_key),
        settings=settings,
    )
    payer = Payer(means)
    recovery = Recovery(means, payer)
    cards = settings.cards or ("sandbox" if tools.settings.development else "")
    shared = Shared(means=means, payer=payer, cards=cards, page_key=tools.settings.mesh_key)
    remote = [each for each in means.gateways.values() if isinstance(each, Stripe)]
    matcher = Matcher(means, payer, shared.bank)
    return Parts(
        servicers={
            intent_pb2_grpc.add_IntentServiceServicer_to_server: Intents(shared),
            refund_pb2_grpc.add_RefundServiceServicer_to_server: Refunds(shared),
            method_pb2_grpc.add_MethodServiceServicer_to_server: Methods(shared),
            dispute_pb2_grpc.add_DisputeServiceServicer_to_server: Disputes(shared),
            wallet_pb2_grpc.add_WalletServiceServicer_to_server: Wallets(shared),
            webhook_pb2_grpc.add_WebhookServiceServicer_to_server: Webhooks(shared),
            statement_pb2_grpc.add_StatementServiceServicer_to_server: Statements(shared, matcher),
            sandbox_pb2_grpc.add_SandboxServiceServicer_to_server: Sandboxes(shared),
        },
        consumers={UserDeleted: Erasure(means).erase},
        loops=[
            recovery.run,
            recovery.count,
            matcher.run,
            *(each.close_at_end for each in remote),
        ],
        starts=[each.open_at_start for each in remote],
    )


def gateways(tools: Tools, settings: PaymentSettings) -> list[Gateway]:
    """Those that are configured. Raises BadSetting."""
    development = tools.settings.development
    found: list[Gateway] = [WalletGateway(tools.db, tools.clock)]
    if iban := settings.bank_iban or (DEVELOPMENT_IBAN if development else ""):
        found.append(Bank(tools.db, settings.bank_payee, iban, settings.bank_bic))
    if settings.cards == "sandbox" and not development:
        raise BadSetting(f"{PREFIX}CARDS=sandbox is for development only (WEFT_DEVELOPMENT=1)")
    if settings.cards in ("sandbox", "") and development:
        found.append(Sandbox(tools.db, tools.settings.edge_url, settings.sandbox_webhook_secret))
    if settings.cards == "stripe":
        found.append(Stripe(settings))
    return found
