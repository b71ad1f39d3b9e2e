"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import BadSetting, load
from services.chassis.host import Parts, Tools
from services.payment.domain.sealing import Sealer
from services.payment.gateways.bank import Bank
from services.payment.gateways.gateway import Gateway
from services.payment.gateways.sandbox import Sandbox
from services.payment.gateways.wallet import WalletGateway
from services.payment.paying import Means, Payer
from services.payment.recovering import Recovery
from services.payment.service.intents import Intents
from services.payment.service.refunds import Refunds
from services.payment.service.shared import Shared
from services.payment.settings import PREFIX, PaymentSettings
from weft.payment.v1 import intent_pb2_grpc, refund_pb2_grpc

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
    return Parts(
        servicers={
            intent_pb2_grpc.add_IntentServiceServicer_to_server: Intents(shared),
            refund_pb2_grpc.add_RefundServiceServicer_to_server: Refunds(shared),
        },
        loops=[recovery.run, recovery.count],
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
        found.append(Sandbox(tools.db, tools.settings.edge_url))
    return found
