"""Jobs whose messages JetStream has lost, as it may when power fails: found in the record, published anew."""

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

from services.chassis.db import after_commit
from services.chassis.jetstream.errors import JetStreamError
from services.queue.domain.job import floor_id
from services.queue.service.shared import Shared
from services.queue.store import intake, steering, upkeep as store
from services.queue.store.days import LEAST

BATCH_MAX = 500  # Jobs that one round looks at: as many requests to JetStream.

log = logging.getLogger("weft.queue")


class Audit:
    """Walks through old open jobs, slowly, for ever. One process at a time."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock
        self._after = LEAST
        self._missed: dict[UUID, int] = {}

    async def run(self) -> None:
        """For ever."""
        pause_s = self._shared.settings.audit_s / 10
        async with self._db.leases.hold("queue.audit") as lease:
            while True:
                lease.check()
                await self._look()
                await asyncio.sleep(pause_s)

    async def _look(self) -> None:
        """A message that is missing twice, with the same sequence in between, is lost.

        Once may be a schedule that came due this very moment: its new place is not yet known.
        """
        old = floor_id(self._clock.now() - timedelta(seconds=self._shared.settings.audit_s))
        rows = await store.waiting(self._db, self._after, old, BATCH_MAX)
        self._after = rows[-1]["job_id"] if len(rows) == BATCH_MAX else LEAST
        missing = await self._missing({row["job_id"]: row["sequence"] for row in rows if row["sequence"]})
        again = [job_id for job_id, sequence in missing.items() if self._missed.get(job_id) == sequence]
        self._missed = {job_id: sequence for job_id, sequence in missing.items() if job_id not in again}
        for job_id in again:
            log.warning("a job's message was lost", extra={"facts": {"job": str(job_id)}})
            async with self._db.fast() as tx:
                await steering.move(tx, job_id)
                await intake.await_publication(tx, [job_id])
                after_commit(tx, lambda job_id=job_id: self._shared.publication.soon([job_id]))  # type: ignore[misc]

    async def _missing(self, sequences: dict[UUID, int]) -> dict[UUID, int]:
        """Those of which the stream has no message; nobody's while NATS is away."""
        try:
            found = await asyncio.gather(*map(self._shared.wire.jobs.get, sequences.values()))
        except (JetStreamError, TimeoutError):
            return {}
        pairs = zip(sequences.items(), found, strict=True)
        return {job_id: sequence for (job_id, sequence), record in pairs if record is None}
