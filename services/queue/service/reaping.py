"""What the queue does for workers that died: gives back what they held, and frees their lanes and slots.

Workers do the same for each other. When the last one dies nobody else is there, and the next one would find
its jobs only when the wait for their acknowledgements is over.
"""

from functools import partial

from services.chassis.jobs.reaping import Reaper
from services.queue.service.shared import Shared
from services.queue.store import worker as holding
from weft.jobs.v1.live_pb2 import Control, LanesChanged


def reaper(shared: Shared) -> Reaper:
    """To be run once the connection to NATS is open."""
    return Reaper(shared.wire.connection, "", partial(free, shared))


async def free(shared: Shared, worker: str) -> None:
    """Its lanes and slots are anyone's at once. Idempotent."""
    async with shared.db.fast() as tx:
        queues = await holding.forget(tx, worker, shared.clock.now())
    for queue in sorted(queues):
        shared.wire.order(Control(lanes_changed=LanesChanged(queue=queue)))
