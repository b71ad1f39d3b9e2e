"""What is kept sealed until it is used (a card token), and marks of requests, by which a repeat is known."""

import hmac
from hashlib import sha256
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.db import Database
from services.chassis.sealing import Seal, derived
from services.order.store import detail
from weft.order.v1.order_pb2 import Payment


class Sealing:
    """Keys that the database does not hold."""

    def __init__(self, secret: str) -> None:
        root = secret.encode()
        self._payments = Seal(derived(root, "weft order payment"))
        self._requests = derived(root, "weft order request")

    def mac(self, request: Message) -> bytes:
        """Keyed, since a request holds names and tokens, which a plain hash would let be guessed."""
        return hmac.digest(self._requests, request.SerializeToString(deterministic=True), sha256)

    def seal(self, payment: Payment, order_id: UUID) -> bytes:
        return self._payments.seal(payment.SerializeToString(), order_id.bytes)

    async def payment(self, db: Database, order_id: UUID) -> Payment | None:
        """How the order is to be paid; None once it is not needed any more."""
        found = await detail.find(db, order_id)
        if found is None or found.payment is None:
            return None
        return Payment.FromString(self._payments.open(found.payment, order_id.bytes))
