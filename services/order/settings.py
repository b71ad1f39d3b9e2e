"""Settings of order; the prefix is WEFT_ORDER_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_ORDER_"
KEY_CHARS_MIN = 32  # What 32 bytes of entropy have at the least, however they are written.


@dataclass(frozen=True, kw_only=True)
class OrderSettings:
    """What an operator may decide."""

    key: str = setting(
        "Seals card tokens until they are used, 32 characters or more (empty: the mesh key).", ""
    )
    checkout_s: float = setting("What a customer has to pay by card, wallet or invoice.", 1800.0)
    transfer_s: float = setting("What a customer has to pay by bank transfer.", 604_800.0)
    fulfil: bool = setting("Whether confirmed orders wait for whoever provides what was sold.", False)
    fulfil_s: float = setting("What whoever provides it has to answer.", 900.0)
    mails: bool = setting("Whether mails about orders are sent.", True)

    def __post_init__(self) -> None:
        if self.key and len(self.key) < KEY_CHARS_MIN:
            raise BadSetting(f"{PREFIX}KEY must have at least {KEY_CHARS_MIN} characters")
        if min(self.checkout_s, self.transfer_s, self.fulfil_s) <= 0:
            raise BadSetting(f"{PREFIX}CHECKOUT_S, ..._TRANSFER_S and ..._FULFIL_S must be positive")
