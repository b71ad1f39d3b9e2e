"""What the servicers work with."""

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.inventory.service.ending import Ends
from services.inventory.service.holding import Holding
from services.inventory.service.writing import Writing
from services.inventory.settings import InventorySettings


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    db: Database
    clock: Clock
    settings: InventorySettings
    writing: Writing
    holding: Holding
    ends: Ends
    page_key: str  # Seals page tokens.
