"""Settings of cart; the prefix is WEFT_CART_."""

from dataclasses import dataclass
from datetime import timedelta

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_CART_"


@dataclass(frozen=True, kw_only=True)
class CartSettings:
    """What an operator may decide."""

    guest_days: int = setting("How long a guest's cart lasts after its last change, in days.", 30)
    customer_days: int = setting("How long a customer's cart lasts after its last change, in days.", 180)
    kept_days: int = setting("How long a closed cart is kept after it would have expired, in days.", 30)
    hanging_s: int = setting("A checkout of unknown outcome is looked into after this, in seconds.", 120)

    def __post_init__(self) -> None:
        if min(self.guest_days, self.customer_days, self.hanging_s) < 1 or self.kept_days < 0:
            raise BadSetting(f"{PREFIX}..._DAYS and {PREFIX}HANGING_S must be positive")

    def lifetime(self, customer_id: object) -> timedelta:
        return timedelta(days=self.guest_days if customer_id is None else self.customer_days)
