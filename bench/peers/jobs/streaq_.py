"""streaq: a hundred jobs at once; results are not kept."""

import asyncio

from streaq import Worker

from bench.peers.jobs import verbs

worker = Worker(redis_url=verbs.URL or "redis://localhost", concurrency=verbs.SLOTS)


@worker.task(ttl=0)
async def noop(index: int, sent: float) -> None:
    verbs.noop(index, sent)


async def feed(verb: str, count: int) -> None:
    async with worker:
        await verbs.fed(verb, count, noop.enqueue, bulk)


async def bulk(count: int) -> None:
    await worker.enqueue_many([noop.enqueue(*arguments) for arguments in verbs.jobs(count)])


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        worker.run_sync()
    else:
        asyncio.run(feed(verb, count))
