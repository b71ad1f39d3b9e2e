"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.pricing import events
from services.pricing.mirror import Mirror
from services.pricing.quoting import Quoter
from services.pricing.rulebook import Rulebook
from services.pricing.service.quotes import Quotes
from services.pricing.service.redemptions import Redemptions
from services.pricing.settings import PREFIX, PricingSettings
from services.pricing.taxes import Taxes
from services.pricing.tidying import Tidying
from weft.identity.v1.events_pb2 import UserDeleted
from weft.pricing.v1 import quote_pb2_grpc, redemption_pb2_grpc


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(PricingSettings, environ, PREFIX)
    db, clock = tools.db, tools.clock
    mirror = Mirror(db, tools.mesh, clock)
    taxes = Taxes(tools.mesh, clock, settings.tax_s)
    quoter = Quoter(db, clock, Rulebook(db), mirror, taxes, settings.country)
    return Parts(
        servicers={
            quote_pb2_grpc.add_QuoteServiceServicer_to_server: Quotes(db, clock, quoter, settings.quote_s),
            redemption_pb2_grpc.add_RedemptionServiceServicer_to_server: Redemptions(db, clock),
        },
        consumers={
            **dict.fromkeys(events.OF_PRODUCTS, events.product_changed),
            **dict.fromkeys(events.OF_CATEGORIES, events.category_moved),
            UserDeleted: events.user_deleted,
        },
        loops=[mirror.run, Tidying(db, clock).run],
    )
