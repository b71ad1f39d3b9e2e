"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.pricing import events
from services.pricing.mirror import Mirror
from services.pricing.quoting import Quoter
from services.pricing.rulebook import Rulebook
from services.pricing.service.coupons import Coupons
from services.pricing.service.price_lists import PriceLists
from services.pricing.service.promotions import Promotions
from services.pricing.service.quotes import Quotes
from services.pricing.service.redemptions import Redemptions
from services.pricing.service.segments import Segments
from services.pricing.service.shared import Shared
from services.pricing.settings import PREFIX, PricingSettings
from services.pricing.taxes import Taxes
from services.pricing.tidying import Tidying
from weft.identity.v1.events_pb2 import UserDeleted
from weft.pricing.v1 import (
    coupon_pb2_grpc,
    price_list_pb2_grpc,
    promotion_pb2_grpc,
    quote_pb2_grpc,
    redemption_pb2_grpc,
    segment_pb2_grpc,
)


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(PricingSettings, environ, PREFIX)
    db, clock = tools.db, tools.clock
    shared = Shared(db=db, clock=clock, page_key=tools.settings.mesh_key)
    mirror = Mirror(db, tools.mesh)
    taxes = Taxes(tools.mesh, clock, settings.tax_s)
    catalog = events.Catalog(mirror)
    quoter = Quoter(db, clock, Rulebook(db), mirror, taxes, settings.country)
    return Parts(
        servicers={
            coupon_pb2_grpc.add_CouponServiceServicer_to_server: Coupons(shared),
            price_list_pb2_grpc.add_PriceListServiceServicer_to_server: PriceLists(shared),
            promotion_pb2_grpc.add_PromotionServiceServicer_to_server: Promotions(shared),
            segment_pb2_grpc.add_SegmentServiceServicer_to_server: Segments(shared),
            quote_pb2_grpc.add_QuoteServiceServicer_to_server: Quotes(db, clock, quoter, settings.quote_s),
            redemption_pb2_grpc.add_RedemptionServiceServicer_to_server: Redemptions(db, clock),
        },
        consumers={
            **dict.fromkeys(events.OF_PRODUCTS, catalog.product_changed),
            **dict.fromkeys(events.OF_CATEGORIES, catalog.category_moved),
            **dict.fromkeys(events.OF_RATES, events.Rates(taxes).changed),
            UserDeleted: events.user_deleted,
        },
        loops=[mirror.run, Tidying(db, clock).run],
    )
