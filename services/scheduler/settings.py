"""Settings of scheduler; the prefix is WEFT_SCHEDULER_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_SCHEDULER_"
KEY_CHARS_MIN = 32  # What 32 bytes of entropy have at the least, however they are written.


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """What an operator may decide."""

    encryption_key: str = setting(
        "Seals secrets of webhooks, 32 characters or more (empty: the mesh key).", ""
    )
    poll_s: float = setting("How long a replica may sleep before it looks for due schedules.", 1.0)
    jump_s: float = setting("A clock that jumps by more than this is believed after `hold_s` only.", 5.0)
    hold_s: float = setting("How long a jump of the clock must last before it is believed.", 60.0)
    ask_after_s: float = setting("Silence about a job after which the queue is asked for it.", 300.0)
    lost_after_s: float = setting("A job that the queue has not heard of by then has failed.", 900.0)
    history_days: int = setting("How long runs and deliveries are kept after they ended.", 90)
    webhook_timeout_s: float = setting("What an endpoint has to answer a webhook.", 15.0)

    def __post_init__(self) -> None:
        if self.encryption_key and len(self.encryption_key) < KEY_CHARS_MIN:
            raise BadSetting(f"{PREFIX}ENCRYPTION_KEY must have at least {KEY_CHARS_MIN} characters")
        if self.history_days < 1:
            raise BadSetting(f"{PREFIX}HISTORY_DAYS must be positive")
        if min(self.poll_s, self.ask_after_s, self.webhook_timeout_s) <= 0:
            raise BadSetting(f"{PREFIX}POLL_S, ..._ASK_AFTER_S and ..._WEBHOOK_TIMEOUT_S must be positive")
