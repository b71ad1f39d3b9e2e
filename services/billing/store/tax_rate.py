"""Tax rates."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from services.billing.domain.tax import Kind, Rate, Rates
from services.billing.domain.tax_rate import TaxRate, UnknownTaxRate
from services.chassis.db import AnyTx, Database, Tx, fetch
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page

TAX_RATES = Listing(
    {
        "country": Field(TaxRate.country),
        "region": Field(TaxRate.region),
        "kind": Field(TaxRate.kind),
        "valid_from": Field(TaxRate.valid_from),
        "tax_rate_id": Field(TaxRate.tax_rate_id, order=False),
    },
    "country, kind, valid_from",
    "tax_rate_id",
)
OF_COUNTRIES = """
select tax_rate_id, country, region, kind, percent, valid_from, valid_to from tax_rate
where country = any($1)
"""


async def rates(source: Database | AnyTx, countries: Collection[str]) -> Rates:
    """All that is known of the countries."""
    wanted = list(countries)
    rows = await (
        source.fetch(OF_COUNTRIES, wanted)
        if isinstance(source, Database)
        else fetch(source, OF_COUNTRIES, wanted)
    )
    return Rates(Rate(**{**row, "kind": Kind(row["kind"])}) for row in map(dict, rows))


async def get(tx: Tx, tax_rate_id: UUID, *, lock: bool = False) -> TaxRate:
    """Raises UnknownTaxRate."""
    row = await tx.get(TaxRate, tax_rate_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownTaxRate(tax_rate_id=tax_rate_id)
    return row


async def written(tx: Tx, row: TaxRate) -> bool:
    """False when its id, or its first day for country, region and kind, is taken."""
    fields = {column.key: getattr(row, column.key) for column in TaxRate.__table__.columns}
    new = insert(TaxRate).values(fields).on_conflict_do_nothing().returning(TaxRate.tax_rate_id)
    return (await tx.execute(new)).first() is not None


async def beginning(tx: Tx, rate: Rate) -> UUID | None:
    """The one that begins on the same day for the same country, region and kind."""
    found = select(TaxRate.tax_rate_id).where(
        TaxRate.country == rate.country,
        TaxRate.region == rate.region,
        TaxRate.kind == rate.kind,
        TaxRate.valid_from == rate.valid_from,
    )
    return await tx.scalar(found)


async def page(tx: Tx, page: Page) -> tuple[Sequence[TaxRate], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(TaxRate)))).all())
