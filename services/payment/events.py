"""What payment does on others' events."""

from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import Envelope, emit
from services.payment.paying import Means
from services.payment.store import method as methods, statement as statements
from weft.identity.v1.events_pb2 import UserDeleted
from weft.payment.v1.events_pb2 import MethodDetached


class Erasure:
    """What is known of a person goes with them; what was paid stays, by amount and id."""

    def __init__(self, means: Means) -> None:
        self._clock = means.clock

    async def erase(self, event: UserDeleted, envelope: Envelope, tx: Tx) -> None:
        customer_id = UUID(event.user_id)
        for row in await methods.every(tx, customer_id):
            if row.detach(self._clock.now()):
                gone = MethodDetached(method_id=str(row.method_id), customer_id=event.user_id)
                await emit(tx, gone)
        await statements.erase(tx, customer_id)
