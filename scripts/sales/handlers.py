"""The job: `scripts/weft worker scripts.sales.handlers --queue imports`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from scripts.sales.totals import BadRow, Tally, Totals, rows
from services.chassis.jobs.context import BlockingJob
from services.chassis.jobs.errors import Fail
from services.chassis.jobs.handlers import job

TYPE, QUEUE = "demo.sales.import", "imports"
STEP = 2_000  # Rows between two checkpoints: what is done again when a worker dies.


@dataclass(frozen=True)
class SalesFile:
    """What to import."""

    path: str
    rows: int  # In all, for the bar.
    pause_s: float = 0.0  # After each step: a demonstration has something to show.


@job(TYPE, timeout_s=600)
def import_sales(job: BlockingJob, file: SalesFile) -> Totals:
    """Counts a file's rows, from the last checkpoint on."""
    tally = job.restored(Tally) or Tally()
    began_at = tally.rows
    if began_at:
        job.log.info("goes on", extra={"facts": {"row": began_at}})
    try:
        left = islice(rows(Path(file.path)), began_at, None)
        while step := list(islice(left, STEP)):
            for row in step:
                tally.add(row)
            job.checkpoint(tally)
            job.progress(min(100.0, 100 * tally.rows / max(1, file.rows)), f"{tally.rows:,} rows")
            time.sleep(file.pause_s)
    except (BadRow, OSError) as error:
        raise Fail("UNREADABLE", str(error)) from error
    return tally.totals(began_at)
