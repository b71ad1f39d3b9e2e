"""What the servicers work with."""

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.ratelimit.domain.limit import Edge


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    db: Database
    clock: Clock
    edge: Edge
    page_key: str  # Seals page tokens.
