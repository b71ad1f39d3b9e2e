"""Settings of taxes; the prefix is WEFT_BILLING_."""

from dataclasses import dataclass

from services.billing.settings import PREFIX
from services.chassis.config import BadSetting, setting


@dataclass(frozen=True, kw_only=True)
class TaxSettings:
    """What an operator may decide of taxes."""

    one_stop_shop: bool = setting(
        "Consumers in other members of the Union pay their own country's tax (0: below the threshold).", True
    )
    vies_url: str = setting(
        "VIES' REST interface (empty: it is never asked, and numbers stay unconfirmed).",
        "https://ec.europa.eu/taxation_customs/vies/rest-api",
    )
    vies_requester: str = setting(
        "The seller's own VAT number; VIES then gives consultation numbers (empty: it gives none).", ""
    )
    vies_timeout_s: float = setting("What VIES has to answer within a call.", 5.0)
    vies_poll_s: float = setting("How long a replica may sleep before it looks for checks to repeat.", 15.0)
    vies_trust_days: int = setting("How long a number that VIES confirmed counts as valid.", 90)

    def __post_init__(self) -> None:
        if min(self.vies_timeout_s, self.vies_poll_s) <= 0 or self.vies_trust_days < 1:
            raise BadSetting(f"{PREFIX}VIES_TIMEOUT_S, ..._POLL_S and ..._TRUST_DAYS must be positive")
