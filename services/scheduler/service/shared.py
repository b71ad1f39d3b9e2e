"""What the servicers work with."""

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.scheduler.domain.sealing import Sealer
from services.scheduler.firing import Firing
from services.scheduler.launching import Launcher


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    db: Database
    clock: Clock
    firing: Firing
    launcher: Launcher
    sealer: Sealer
    page_key: str  # Seals page tokens.
    development: bool
