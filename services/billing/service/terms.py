"""Terms of plans, to and from the wire."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from services.billing.domain.charge import NOTHING, ONE, Aggregation, Basis, Charge, Model, Tier
from services.billing.domain.cycle import Proration, Unit
from services.billing.domain.plan import Alignment, Terms, UpgradeCredit
from services.billing.service.stamps import plain
from services.chassis.money import exponent
from weft.billing.v1 import plan_pb2 as pb


def exact(text: str, absent: Decimal = NOTHING) -> Decimal:
    return Decimal(text) if text else absent


def shown(number: Decimal) -> str:
    """Nothing is left out."""
    return plain(number) if number else ""


def name_of(enum: Any, prefix: str, value: int, absent: str) -> str:
    """`MONTH` of INTERVAL_UNIT_MONTH."""
    return enum.Name(value).removeprefix(prefix) if value else absent


def tax_from_pb(value: int) -> str:
    return name_of(pb.ChargeTax, "CHARGE_TAX_", value, "STANDARD")


def tax_to_pb(category: str) -> Any:
    return pb.ChargeTax.Value(f"CHARGE_TAX_{category}")


def from_pb(terms: pb.PlanTerms) -> Terms:
    """Raises UnknownCurrency."""
    exponent(terms.currency)
    aligned = name_of(pb.Alignment, "ALIGNMENT_", terms.alignment, Alignment.ANNIVERSARY)
    prorated = name_of(pb.ProrationRule, "PRORATION_RULE_", terms.proration, Proration.SECOND)
    back = name_of(pb.UpgradeCredit, "UPGRADE_CREDIT_", terms.upgrade_credit, UpgradeCredit.UNUSED)
    return Terms(
        currency=terms.currency,
        unit=Unit(name_of(pb.IntervalUnit, "INTERVAL_UNIT_", terms.interval_unit, Unit.MONTH)),
        count=terms.interval_count or 1,
        alignment=Alignment(aligned),
        proration=Proration(prorated),
        upgrade_credit=UpgradeCredit(back),
        trial_days=terms.trial_days,
        minimum=exact(terms.minimum),
        minimum_category=tax_from_pb(terms.minimum_tax),
        charges=tuple(_charge_from_pb(charge) for charge in terms.charges),
    )


def _charge_from_pb(charge: pb.Charge) -> Charge:
    adding = name_of(pb.MeterAggregation, "METER_AGGREGATION_", charge.aggregation, Aggregation.SUM)
    return Charge(
        code=charge.code,
        title=charge.title,
        basis=Basis(name_of(pb.ChargeBasis, "CHARGE_BASIS_", charge.basis, Basis.FLAT)),
        model=Model(name_of(pb.ChargeModel, "CHARGE_MODEL_", charge.model, Model.STANDARD)),
        in_advance=charge.in_advance,
        tax_category=tax_from_pb(charge.tax),
        sku=charge.sku,
        unit_price=exact(charge.unit_price),
        tiers=tuple(
            Tier(exact(tier.up_to) if tier.up_to else None, exact(tier.unit_price), exact(tier.flat))
            for tier in charge.tiers
        ),
        package_units=exact(charge.package_units, ONE),
        free_units=exact(charge.free_units),
        rate=exact(charge.rate),
        fixed=exact(charge.fixed),
        free_events=charge.free_events,
        free_amount=exact(charge.free_amount),
        minimum=exact(charge.minimum),
        meter=charge.meter,
        aggregation=Aggregation(adding),
    )


def to_pb(terms: Terms) -> pb.PlanTerms:
    return pb.PlanTerms(
        currency=terms.currency,
        interval_unit=pb.IntervalUnit.Value(f"INTERVAL_UNIT_{terms.unit}"),
        interval_count=terms.count,
        alignment=pb.Alignment.Value(f"ALIGNMENT_{terms.alignment}"),
        proration=pb.ProrationRule.Value(f"PRORATION_RULE_{terms.proration}"),
        upgrade_credit=pb.UpgradeCredit.Value(f"UPGRADE_CREDIT_{terms.upgrade_credit}"),
        trial_days=terms.trial_days,
        minimum=shown(terms.minimum),
        minimum_tax=tax_to_pb(terms.minimum_category),
        charges=[pb.Charge(**_charge_to_pb(charge)) for charge in terms.charges],
    )


def _charge_to_pb(charge: Charge) -> Mapping[str, Any]:
    exact_ones = ("unit_price", "package_units", "free_units", "rate", "fixed", "free_amount", "minimum")
    same = ("code", "title", "in_advance", "sku", "free_events", "meter")
    made: dict[str, Any] = {name: getattr(charge, name) for name in same}
    made |= {name: shown(getattr(charge, name)) for name in exact_ones}
    made["basis"] = pb.ChargeBasis.Value(f"CHARGE_BASIS_{charge.basis}")
    made["model"] = pb.ChargeModel.Value(f"CHARGE_MODEL_{charge.model}")
    made["aggregation"] = pb.MeterAggregation.Value(f"METER_AGGREGATION_{charge.aggregation}")
    made["tax"] = tax_to_pb(charge.tax_category)
    made["tiers"] = [
        pb.Tier(
            up_to="" if tier.up_to is None else plain(tier.up_to),
            unit_price=shown(tier.unit_price),
            flat=shown(tier.flat),
        )
        for tier in charge.tiers
    ]
    return made
