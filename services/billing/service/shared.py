"""What the servicers work with."""

from dataclasses import dataclass

from services.billing.billing import Biller
from services.billing.changing import Changing
from services.billing.chasing import Chasing
from services.billing.crediting import Crediting
from services.billing.issuing import Issuer
from services.billing.running import Runner
from services.billing.settings import BillingSettings
from services.billing.store.plan import TermsOf
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
    terms: TermsOf
    issuer: Issuer
    biller: Biller
    crediting: Crediting
    changing: Changing
    runner: Runner
    chasing: Chasing
    page_key: str  # Seals page tokens.
