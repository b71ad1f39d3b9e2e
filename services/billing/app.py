"""Puts the service together."""

from collections.abc import Mapping

from services.billing.seller_settings import SellerSettings
from services.billing.service.profiles import Profiles
from services.billing.service.shared import Shared
from services.billing.service.tax import TaxDesk
from services.billing.service.tax_numbers import VatNumbers, told
from services.billing.service.tax_rates import TaxRates
from services.billing.settings import PREFIX, BillingSettings
from services.billing.tax.confirming import Confirming
from services.billing.tax.determining import Taxes
from services.billing.tax.vies import Vies
from services.billing.tax_settings import TaxSettings
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from weft.billing.v1.profile_pb2_grpc import add_BillingProfileServiceServicer_to_server
from weft.billing.v1.tax_pb2_grpc import add_TaxServiceServicer_to_server
from weft.billing.v1.tax_rate_pb2_grpc import add_TaxRateServiceServicer_to_server
from weft.billing.v1.vat_number_pb2_grpc import add_VatNumberServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(BillingSettings, environ, PREFIX)
    shared = Shared(
        db=tools.db, clock=tools.clock, mesh=tools.mesh, settings=settings, page_key=tools.settings.mesh_key
    )
    seller, of_taxes = load(SellerSettings, environ, PREFIX), load(TaxSettings, environ, PREFIX)
    taxes = Taxes(tools.clock, seller.seller_country, of_taxes)
    confirming = Confirming(tools.db, tools.clock, Vies(of_taxes), of_taxes.vies_poll_s, told)
    return Parts(
        servicers={
            add_TaxServiceServicer_to_server: TaxDesk(shared, taxes),
            add_TaxRateServiceServicer_to_server: TaxRates(shared),
            add_VatNumberServiceServicer_to_server: VatNumbers(shared, confirming),
            add_BillingProfileServiceServicer_to_server: Profiles(shared),
        },
        loops=[confirming.run],
    )
