"""A handler of keyed jobs, which writes down when each began and ended."""

import asyncio
import os
import random
import time
from pathlib import Path

from services.chassis.jobs.context import Job
from services.chassis.jobs.handlers import job
from tests.worker.handlers import Order


@job("entry")
async def entry(job: Job, order: Order) -> None:
    """Lines of `time key number begin|end pid`, each written whole."""
    write(order, f"{job.facts.key} {order.number} begin {os.getpid()}")
    await asyncio.sleep(random.random() * 0.004)
    write(order, f"{job.facts.key} {order.number} end {os.getpid()}")


def write(order: Order, words: str) -> None:
    with Path(order.words).open("a") as trail:
        trail.write(f"{time.time():.6f} {words}\n")
