"""A handler that needs its module's lifespan."""

from collections.abc import AsyncIterator

from services.chassis.jobs.context import Job
from services.chassis.jobs.handlers import job, lifespan
from services.chassis.jobs.surroundings import Surroundings

resources = ["closed"]


@lifespan
async def resource(around: Surroundings) -> AsyncIterator[None]:
    resources.append("open")
    yield
    resources.pop()


@job("spanned")
async def spanned(job: Job) -> bytes:
    return resources[-1].encode()
