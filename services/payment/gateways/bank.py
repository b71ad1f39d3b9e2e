"""Our own bank account: customers transfer, and what came is seen on its statements."""

from services.chassis.db import Connection, Database
from services.payment.domain.intent import State, bank_reference
from services.payment.domain.remote import Charge, RemoteState
from services.payment.gateways.desk import Desk, Opening

ARRIVED = """
update desk_payment set captured = captured + $3,
    state = case when captured + $3 >= amount then 'TAKEN' else state end
where gateway = $1 and ref = $2
"""
PAID_OUT = "update desk_movement set done = true where gateway = $1 and key = $2 and not done returning key"


class Bank(Desk):
    """A payment's id here is its creditor reference. Refunds are done when a statement shows them."""

    name = "bank"
    refunds_at_once = False
    awaiting = (State.REQUIRES_ACTION, State.AUTHORISED)

    def __init__(self, db: Database, payee: str, iban: str, bic: str) -> None:
        super().__init__(db)
        self.payee, self.iban, self.bic = payee, iban, bic

    def ref(self, charge: Charge) -> str:
        return bank_reference(charge.intent_id)

    async def opening(self, tx: Connection, charge: Charge) -> Opening:
        return Opening(state=RemoteState.AUTHORISED if charge.deferred else RemoteState.ACTION)
