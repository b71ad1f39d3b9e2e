"""Handlers whose effects can be counted: each leaves a row, once, in a database of its own.

Run by `python -m services.worker tests.chaos.effects`, with the database's URL in WEFT_CHAOS_DATABASE_URL.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.chassis.db import Database
from services.chassis.jobs.context import Job
from services.chassis.jobs.effects import once
from services.chassis.jobs.handlers import job, lifespan
from services.chassis.jobs.surroundings import Surroundings

URL = "WEFT_CHAOS_DATABASE_URL"
TABLES = """
create table if not exists effect (
    queue text not null, key text not null, n int not null, position bigint generated always as identity
)
"""
DONE = "insert into effect (queue, key, n) values ($1, $2, $3)"
_databases: list[Database] = []


@dataclass(frozen=True)
class Effect:
    """What is to be there once, and after all of its key with smaller numbers."""

    key: str
    n: int


@lifespan
async def database(around: Surroundings) -> AsyncIterator[None]:
    db = Database(os.environ[URL])
    _databases.append(db)
    yield
    _databases.remove(db)
    await db.close()


@job("chaos.effect")
async def leave(job: Job, effect: Effect) -> None:
    """The claim and the effect commit together."""
    async with _databases[0].fast() as tx:
        if await once(tx, job):
            await tx.execute(DONE, job.facts.queue, effect.key, effect.n)
