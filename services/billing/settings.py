"""Settings of billing; the prefix is WEFT_BILLING_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_BILLING_"


@dataclass(frozen=True, kw_only=True)
class BillingSettings:
    """What an operator may decide."""

    tax_hold_days: int = setting(
        "How long an invoice waits for the buyer's VAT number to be confirmed; then it is taxed.", 3
    )
    poll_s: float = setting("How long a replica may sleep before it looks for what is due.", 5.0)

    def __post_init__(self) -> None:
        if self.poll_s <= 0:
            raise BadSetting(f"{PREFIX}POLL_S must be positive")
        if self.tax_hold_days < 0:
            raise BadSetting(f"{PREFIX}TAX_HOLD_DAYS must not be negative")
