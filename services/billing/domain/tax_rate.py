"""Tax rates as they are kept."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.billing.domain.tax import Kind, Rate
from services.chassis.errors import AlreadyExists, InvalidArgument, NotFound

PERCENT_MAX = 100  # No country takes more than the thing costs.
IMPORT_ROWS_MAX = 100_000  # Every country's every rate since 1968 is below 10,000.


class UnknownTaxRate(NotFound):
    """There is no tax rate {tax_rate_id}."""


class TaxRateRefused(InvalidArgument):
    """The tax rate breaks a rule: {problem}."""


class TaxRateIdReused(AlreadyExists):
    """Tax rate {tax_rate_id} was made with other settings."""


class TaxRateTaken(AlreadyExists):
    """Tax rate {taken_by} begins on {valid_from} for the same country, region and kind."""


class TooManyRows(InvalidArgument):
    """An import has at most {max} rows; those before were taken."""


class TaxRate(Row):
    """What one country charges for one kind of thing, from a day on."""

    __tablename__ = "tax_rate"
    tax_rate_id: Mapped[UUID] = mapped_column(primary_key=True)
    country: Mapped[str]
    region: Mapped[str]
    kind: Mapped[str]
    percent: Mapped[Decimal]
    valid_from: Mapped[date]
    valid_to: Mapped[date | None]
    revision: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def says(self, rate: Rate) -> bool:
        """It was made with these settings."""
        return self.as_rate() == rate

    def as_rate(self) -> Rate:
        return Rate(
            self.tax_rate_id,
            self.country,
            self.region,
            Kind(self.kind),
            self.percent,
            self.valid_from,
            self.valid_to,
        )


def percent(text: str) -> Decimal:
    """Raises TaxRateRefused."""
    exact = Decimal(text)
    if exact > PERCENT_MAX:
        raise TaxRateRefused(problem=f"a percentage is at most {PERCENT_MAX}", field="settings.percent")
    return exact


def day(text: str, field: str) -> date:
    """Raises TaxRateRefused."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise TaxRateRefused(problem=f"{text} is no date", field=field) from None


def span(valid_from: str, valid_to: str) -> tuple[date, date | None]:
    """Raises TaxRateRefused."""
    first = day(valid_from, "settings.valid_from")
    end = day(valid_to, "settings.valid_to") if valid_to else None
    if end is not None and end <= first:
        raise TaxRateRefused(problem="it ends before it begins", field="settings.valid_to")
    return first, end
