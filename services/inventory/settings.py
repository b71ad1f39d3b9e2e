"""Settings of inventory; the prefix is WEFT_INVENTORY_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_INVENTORY_"


@dataclass(frozen=True, kw_only=True)
class InventorySettings:
    """What an operator may decide."""

    reservation_ttl_s: float = setting("How long a reservation is held that says nothing of it.", 900.0)
    poll_s: float = setting("How long a replica may sleep before it looks for what has expired.", 1.0)
    jump_s: float = setting("A clock that jumps by more than this is believed after `hold_s` only.", 5.0)
    hold_s: float = setting("How long a jump of the clock must last before it is believed.", 60.0)
    alert_address: str = setting("Who is told by mail of stock that runs low (empty: nobody).", "")
    alert_locale: str = setting("The language of these mails (BCP 47).", "en")
    alert_every_s: float = setting("Between two of these mails, at least; the first goes at once.", 300.0)
    check_every_s: float = setting("Between two looks at whether counters and reservations agree.", 300.0)
    history_days: int = setting("How long reservations are kept after they ended.", 400)

    def __post_init__(self) -> None:
        if not 0 < self.reservation_ttl_s <= 366 * 86_400:
            raise BadSetting(f"{PREFIX}RESERVATION_TTL_S must be positive, and at most 366 days")
        if min(self.poll_s, self.alert_every_s, self.check_every_s) <= 0:
            raise BadSetting(f"{PREFIX}POLL_S, ..._ALERT_EVERY_S and ..._CHECK_EVERY_S must be positive")
        if self.history_days < 1:
            raise BadSetting(f"{PREFIX}HISTORY_DAYS must be positive")
