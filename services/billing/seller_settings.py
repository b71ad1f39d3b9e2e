"""Who sells: what invoices and taxes must know of the business itself; the prefix is WEFT_BILLING_."""

import re
from dataclasses import dataclass

from services.billing.settings import PREFIX
from services.chassis.config import BadSetting, setting


@dataclass(frozen=True, kw_only=True)
class SellerSettings:
    """The business, as its invoices say it."""

    seller_country: str = setting("Where the seller is established (ISO 3166-1 alpha-2).", "DE")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{2}", self.seller_country):
            raise BadSetting(f"{PREFIX}SELLER_COUNTRY must be two capital letters")
