"""Settings of ratelimit; the prefix is WEFT_RATELIMIT_. The edge is told the same."""

from dataclasses import dataclass

from services.chassis.config import setting

PREFIX = "WEFT_RATELIMIT_"


@dataclass(frozen=True, kw_only=True)
class RatelimitSettings:
    """What the edges were started with."""

    closed: tuple[str, ...] = setting(
        "Beginnings of rpcs (`weft.payment.v1.`, ...) that the edge refuses while no decider answers it.", ()
    )
    headers: tuple[str, ...] = setting("Request headers that the edge tells deciders of.", ())
