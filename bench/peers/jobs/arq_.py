"""arq: a hundred jobs at once, polling every 20 ms; results are not kept."""

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from bench.peers.jobs import verbs

POLL_S = 0.02
CONNECTIONS_MAX = 500  # Two hundred callers at once need more than the hundred that redis-py allows.
SETTINGS = RedisSettings.from_dsn(verbs.URL) if verbs.URL else RedisSettings()
SETTINGS.max_connections = CONNECTIONS_MAX


async def noop(context: dict[str, Any], index: int, sent: float) -> None:
    verbs.noop(index, sent)


async def feed(verb: str, count: int) -> None:
    pool = await create_pool(SETTINGS)
    await verbs.fed(verb, count, lambda index, sent: pool.enqueue_job("noop", index, sent), None)


async def work() -> None:
    functions = [func(noop, name="noop", keep_result=0)]
    worker = Worker(functions, redis_settings=SETTINGS, max_jobs=verbs.SLOTS, poll_delay=POLL_S)
    await worker.async_run()


if __name__ == "__main__":
    verb, count = verbs.words()
    asyncio.run(work() if verb == "work" else feed(verb, count))
