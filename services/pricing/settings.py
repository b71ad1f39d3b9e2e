"""Settings of pricing; the prefix is WEFT_PRICING_."""

import re
from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_PRICING_"


@dataclass(frozen=True, kw_only=True)
class PricingSettings:
    """What an operator may decide."""

    country: str = setting("Where goods go if a quote does not say (ISO 3166-1 alpha-2).", "DE")
    quote_s: int = setting("How long a quote can be redeemed, in seconds.", 1800)
    tax_s: int = setting("How long a tax is remembered within its day, in seconds.", 300)

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Z]{2}", self.country):
            raise BadSetting(f"{PREFIX}COUNTRY must be a country of two letters")
        if self.quote_s < 1 or self.tax_s < 1:
            raise BadSetting(f"{PREFIX}QUOTE_S and {PREFIX}TAX_S must be positive")
