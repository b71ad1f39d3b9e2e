"""Settings of health; the prefix is WEFT_HEALTH_."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from services.chassis.config import BadSetting, setting
from services.health.domain.component import Thresholds
from services.health.domain.plan import BadPlan, Capable, Plan, parse

PREFIX = "WEFT_HEALTH_"
SHIPPED = Path(__file__).parent / "capabilities.toml"


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """What an operator may decide."""

    monitor: bool = setting(
        "Look at components and decide modes; without, modes change by pins alone.", False
    )
    capabilities: str = setting("A TOML file of capabilities (empty: the one that ships).", "")
    edge_url: str = setting(
        "Envoy's listener of statistics, by which services are watched and calls counted (empty: nowhere).",
        "",
    )
    probes: tuple[str, ...] = setting(
        "What else is watched, comma separated `name=url`: http(s), tcp, smtp, grpc://host:port/service, "
        "disk:///path.",
        (),
    )
    interval_s: float = setting("Between two looks at a component.", 5.0)
    timeout_s: float = setting("What a look may take before it has failed.", 2.0)
    budget_s: float = setting("What a look may take before the component is slow.", 0.5)
    window: int = setting("Looks that count.", 5)
    fall: int = setting("Failed looks of these that make a component down, or late ones slow.", 3)
    rise: int = setting("Answers in a row that bring it back; doubled by each fall within 10 minutes.", 3)
    backoff_s: float = setting("The first pause before a component that is down is tried again.", 1.0)
    backoff_s_max: float = setting("The longest of these pauses, each twice the one before.", 60.0)
    hold_s: float = setting("How long a mode lasts at least before it gets better.", 30.0)
    alert_address: str = setting("Who is told by mail of modes that change (empty: nobody).", "")
    alert_locale: str = setting("The language of these mails (BCP 47).", "en")
    alert_quiet_s: float = setting("Between two mails about a capability that gets no worse.", 600.0)

    def __post_init__(self) -> None:
        if not 1 <= self.fall <= self.window <= 100 or not 1 <= self.rise <= self.window:
            raise BadSetting(f"{PREFIX}FALL and ..._RISE must be 1 or more, and at most ..._WINDOW (100)")
        if min(self.interval_s, self.timeout_s, self.budget_s, self.backoff_s) <= 0 or self.hold_s < 0:
            raise BadSetting(f"{PREFIX}INTERVAL_S, TIMEOUT_S, BUDGET_S, BACKOFF_S must be positive")
        if self.backoff_s_max < self.backoff_s or self.backoff_s_max > 600:
            raise BadSetting(f"{PREFIX}BACKOFF_S_MAX must be at least ..._BACKOFF_S, and at most 600")

    def plan(self) -> Plan:
        """Raises BadSetting."""
        limits = Thresholds(
            window=self.window,
            fall=self.fall,
            rise=self.rise,
            backoff_s=self.backoff_s,
            backoff_s_max=self.backoff_s_max,
            hold_s=self.hold_s,
        )
        return Plan(capabilities=_read(Path(self.capabilities or SHIPPED)), limits=limits)


def _read(path: Path) -> dict[str, Capable]:
    try:
        return parse(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, BadPlan) as error:
        raise BadSetting(f"{PREFIX}CAPABILITIES: {type(error).__name__}: {error}") from error
