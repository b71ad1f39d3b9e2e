"""Jobs that ride in the transactions of others, by the event JobRequested."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.chassis.db import Tx, after_commit
from services.chassis.errors import Refusal
from services.chassis.events import Envelope, provenance
from services.chassis.rpc import check
from services.queue.service.shared import Shared
from services.queue.service.tallying import REFUSED
from weft.queue.v1.events_pb2 import JobRequested


def taking_in(shared: Shared) -> Callable[[JobRequested, Envelope, Tx], Awaitable[None]]:
    """The handler of JobRequested."""

    async def take_in(event: JobRequested, envelope: Envelope, tx: Tx) -> None:
        """The job is there when the inbox has noted the event, once. Raises what the contract refuses."""
        provenance.set(replace(provenance.get(), actor=envelope.actor))
        try:
            check(event)
            job = shared.intake.prepare(event.job)
            taken = (await shared.intake.write(tx, [job]))[0]
        except Refusal as refusal:
            REFUSED.labels(refusal.reason()).inc()
            raise
        if taken.publish:
            after_commit(tx, lambda: shared.publication.soon([taken.job_id]))

    return take_in
