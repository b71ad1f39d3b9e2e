"""A handler that takes its worker along."""

import os

from services.chassis.jobs.context import Job
from services.chassis.jobs.handlers import job
from tests.worker.handlers import Order


@job("poison")
async def poison(job: Job, order: Order) -> None:
    os._exit(order.number)
