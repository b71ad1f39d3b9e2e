"""Effects exactly once, though a job runs at least once.

A step is claimed in the handler's own transaction, so claim and effect commit together or not at all:

    async with db.transaction() as tx:
        if await once(tx, job, "charge"):
            tx.add(Charge(...))

Of two attempts at the same time the second waits for the first, and then sees its claim.
"""

from services.chassis.db import AnyTx, fetch
from services.chassis.jobs.context import BlockingJob, Job

STEP_CHARS_MAX = 100  # The name of a step, or of a step and what it is done to.
KEPT_D = 90  # No job lives longer: retries, dead letters and redrives all end within a queue's retention.

CLAIM = "insert into job_effect (job_id, step) values ($1, $2) on conflict do nothing returning true"
FORGET = "delete from job_effect where at < now() - make_interval(days => $1)"


async def once(tx: AnyTx, job: Job | BlockingJob, step: str = "") -> bool:
    """Whether no earlier attempt of `job` committed `step`. Raises ValueError for a name too long."""
    if len(step) > STEP_CHARS_MAX:
        raise ValueError(f"a step's name has at most {STEP_CHARS_MAX} characters, not {len(step)}")
    return bool(await fetch(tx, CLAIM, job.id, step))
