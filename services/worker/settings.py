"""This service's settings; the prefix is WEFT_WORKER_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

HUNG_S_MAX = 240.0  # Beyond that it is forgotten that the worker was ever there.


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How pools are kept."""

    local: bool = setting(
        "Keep pools' workers as processes of this one; off where a platform starts them.", True
    )
    modules: tuple[str, ...] = setting(
        "Modules that pools may name, and all below them: what a pool names is imported.", ("services",)
    )
    drain_s: float = setting("Seconds that jobs in flight are given when a worker stops.", 8.0)
    beat_s: float = setting("Seconds between two signs of life of a worker.", 2.0)
    hung_s: float = setting("Seconds without a sign of life after which a local worker is killed.", 30.0)
    scale_every_s: float = setting("Seconds between two looks at what waits.", 2.0)

    def __post_init__(self) -> None:
        if min(self.drain_s, self.beat_s, self.scale_every_s) <= 0:
            raise BadSetting("WEFT_WORKER_DRAIN_S, _BEAT_S and _SCALE_EVERY_S must be above 0")
        if not 3 * self.beat_s <= self.hung_s <= HUNG_S_MAX:
            rule = f"must lie between three times WEFT_WORKER_BEAT_S and {HUNG_S_MAX:.0f}"
            raise BadSetting(f"WEFT_WORKER_HUNG_S {rule}")
