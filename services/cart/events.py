"""What carts do when others announce something."""

from uuid import UUID

from services.cart.store import cart as store
from services.chassis.db import Tx
from services.chassis.events import Envelope
from weft.identity.v1.events_pb2 import UserDeleted


async def user_deleted(event: UserDeleted, envelope: Envelope, tx: Tx) -> None:
    """What they meant to buy is nobody's business any more."""
    await store.forget_customer(tx, UUID(event.user_id))
