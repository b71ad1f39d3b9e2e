"""What the servicers work with."""

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.saga_runner import Sagas
from services.order.exchanging import Exchanges
from services.order.placing import Placing
from services.order.refunding import Refunds
from services.order.sealing import Sealing
from services.order.settings import OrderSettings
from services.order.settling import Settling
from services.order.shipping import Shipping
from services.order.stocking import Stocking


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Lent to each servicer."""

    db: Database
    clock: Clock
    settings: OrderSettings
    settling: Settling
    sagas: Sagas
    placing: Placing
    sealing: Sealing
    shipping: Shipping
    refunds: Refunds
    exchanges: Exchanges
    stocking: Stocking
    page_key: str  # Seals page tokens.
