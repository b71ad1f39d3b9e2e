"""What ratelimit does when others announce something."""

from services.chassis.db import Tx, execute
from services.chassis.events import Envelope
from services.ratelimit.store.usage import FORGET
from weft.identity.v1.events_pb2 import UserDeleted


async def forget(event: UserDeleted, envelope: Envelope, tx: Tx) -> None:
    """What was counted of a person who is gone, goes."""
    await execute(tx, FORGET, event.user_id)
