"""What the servicers work with."""

from dataclasses import dataclass

from services.billing.settings import BillingSettings
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.mesh import Mesh


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    db: Database
    clock: Clock
    mesh: Mesh
    settings: BillingSettings
    page_key: str  # Seals page tokens.
