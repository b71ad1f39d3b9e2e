"""saq: a hundred jobs at once; results are not kept."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue
from saq.worker import Worker

from bench.peers.jobs import verbs

CONNECTIONS_MAX = 500  # Two hundred callers at once need more than the hundred that redis-py allows.


def made() -> RedisQueue:
    return RedisQueue(Redis.from_url(verbs.URL, max_connections=CONNECTIONS_MAX))


async def noop(context: Any, *, index: int, sent: float) -> None:
    verbs.noop(index, sent)


async def feed(verb: str, count: int) -> None:
    queue = made()
    await queue.connect()
    await verbs.fed(
        verb, count, lambda index, sent: queue.enqueue("noop", index=index, sent=sent, ttl=-1), None
    )
    await queue.disconnect()


async def work() -> None:
    queue = made()
    await Worker(queue, functions=[noop], concurrency=verbs.SLOTS).start()


if __name__ == "__main__":
    verb, count = verbs.words()
    asyncio.run(work() if verb == "work" else feed(verb, count))
