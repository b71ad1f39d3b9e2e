"""weft.billing.v1.TaxService."""

from services.billing.domain.tax import Kind, Supply, Tax
from services.billing.service.shared import Shared
from services.billing.service.stamps import moment, plain
from services.billing.tax.determining import Question, Taxes
from services.chassis.method import Call
from weft.billing.v1 import tax_pb2 as pb
from weft.billing.v1.tax_pb2_grpc import TaxServiceServicer


class TaxDesk(TaxServiceServicer):
    def __init__(self, shared: Shared, taxes: Taxes) -> None:
        self._shared, self._taxes = shared, taxes

    async def DetermineTax(self, request: pb.DetermineTaxRequest, call: Call) -> pb.DetermineTaxResponse:
        [tax] = await self._taxes.determine(self._shared.db, [self._question(request)])
        return pb.DetermineTaxResponse(tax=to_pb(tax))

    async def BatchDetermineTax(
        self, request: pb.BatchDetermineTaxRequest, call: Call
    ) -> pb.BatchDetermineTaxResponse:
        questions = [self._question(sale) for sale in request.sales]
        taxes = await self._taxes.determine(self._shared.db, questions)
        return pb.BatchDetermineTaxResponse(taxes=map(to_pb, taxes))

    def _question(self, request: pb.DetermineTaxRequest) -> Question:
        services = request.supply == pb.SUPPLY_SERVICES
        return Question(
            seller_country=request.seller_country,
            buyer_country=request.buyer_country,
            buyer_postcode=request.buyer_postcode,
            kind=kind(request.tax_category),
            at=moment(request.at) if request.HasField("at") else self._shared.clock.now(),
            vat_number=request.vat_number,
            supply=Supply.SERVICES if services else Supply.GOODS,
        )


def kind(category: pb.TaxCategory.ValueType) -> Kind:
    return Kind(pb.TaxCategory.Name(category).removeprefix("TAX_CATEGORY_"))


def number_state(state: str) -> pb.VatNumberState.ValueType:
    return pb.VatNumberState.Value(f"VAT_NUMBER_STATE_{'UNSPECIFIED' if state == 'NONE' else state}")


def to_pb(tax: Tax) -> pb.TaxDetermination:
    return pb.TaxDetermination(
        rate=plain(tax.percent),
        category_code=tax.code,
        reverse_charge=tax.code == "AE",
        legal_note=tax.note,
        exemption_code=tax.exemption,
        country=tax.country,
        region=tax.region,
        tax_rate_id=str(tax.tax_rate_id or ""),
        vat_number_state=number_state(tax.number),
        provisional=tax.provisional,
    )
