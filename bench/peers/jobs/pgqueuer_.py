"""pgqueuer on asyncpg, in batches of a hundred."""

import asyncio
import json

import asyncpg
from pgqueuer import AsyncpgDriver, PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.jobs import verbs


def payload(index: int, sent: float) -> bytes:
    return json.dumps([index, sent]).encode()


async def feed(verb: str, count: int) -> None:
    """Through a pool: a connection of PostgreSQL takes one statement at a time."""
    async with asyncpg.create_pool(verbs.URL, max_size=10) as pool:

        async def enqueue(index: int, sent: float) -> None:
            async with pool.acquire() as connection:
                await Queries(AsyncpgDriver(connection)).enqueue("noop", payload(index, sent))

        async def bulk(count: int) -> None:
            async with pool.acquire() as connection:
                payloads: list[bytes | None] = [payload(*arguments) for arguments in verbs.jobs(count)]
                await Queries(AsyncpgDriver(connection)).enqueue(["noop"] * count, payloads, [0] * count)

        await verbs.fed(verb, count, enqueue, bulk)


async def work() -> None:
    connection = await asyncpg.connect(verbs.URL)
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        verbs.noop(*json.loads(job.payload or b""))

    await queuer.run(batch_size=verbs.SLOTS)


async def setup() -> None:
    await Queries(AsyncpgDriver(await asyncpg.connect(verbs.URL))).install()


if __name__ == "__main__":
    verb, count = verbs.words()
    asyncio.run({"work": work, "setup": setup}[verb]() if verb in ("work", "setup") else feed(verb, count))
