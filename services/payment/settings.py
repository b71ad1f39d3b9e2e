"""This service's settings; the prefix is WEFT_PAYMENT_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_PAYMENT_"
CARDS = ("", "sandbox", "stripe", "none")


@dataclass(frozen=True, kw_only=True)
class PaymentSettings:
    """By what people pay, and how gateways are called."""

    cards: str = setting(
        "The gateway of cards: stripe, sandbox or none; empty: sandbox in development, else none.", ""
    )
    stripe_api_base: str = setting("Address of the Stripe-shaped gateway.", "https://api.stripe.com")
    stripe_api_key: str = setting("Our secret key there.", "")
    stripe_webhook_secret: str = setting("Secret that it signs its webhooks with.", "")
    stripe_multicapture: bool = setting("It lets us capture a payment in several parts.", False)
    sandbox_webhook_secret: str = setting("Secret that signs webhooks of the sandbox; empty: none.", "")
    bank_payee: str = setting("Name of our bank account's holder, for transfers.", "Weft")
    bank_iban: str = setting(
        "IBAN of our bank account; empty: nobody pays by bank, except in development.", ""
    )
    bank_bic: str = setting("Its BIC.", "")
    call_s: float = setting("Seconds that a gateway is given to answer.", 20.0)
    lease_s: float = setting(
        "Seconds after which a call that was never finished is taken up by another process.", 30.0
    )
    retry_first_s: float = setting(
        "Seconds before a gateway that was away is asked again; doubled each time.", 1.0
    )
    retry_max_s: float = setting("Seconds between two such attempts at most.", 600.0)
    poll_s: float = setting(
        "Seconds between two questions for a payment that waits; doubled each time.", 15.0
    )
    round_s: float = setting("Seconds between two looks for what is due.", 0.5)
    hold_days: int = setting("Days after which an authorisation that was not captured is released.", 7)
    key: str = setting("Secret that seals tokens and bank accounts; empty: the mesh key.", "")

    def __post_init__(self) -> None:
        if self.cards not in CARDS:
            raise BadSetting(f"{PREFIX}CARDS must be one of {', '.join(CARDS[1:])}")
        if self.cards == "stripe" and not self.stripe_api_key:
            raise BadSetting(f"{PREFIX}STRIPE_API_KEY must be set where cards go to stripe")
        if self.lease_s <= self.call_s:
            raise BadSetting(f"{PREFIX}LEASE_S must be longer than {PREFIX}CALL_S")
        if min(self.call_s, self.retry_first_s, self.poll_s, self.round_s) <= 0 or self.hold_days < 1:
            raise BadSetting(f"{PREFIX}*_S and {PREFIX}HOLD_DAYS must be positive")
