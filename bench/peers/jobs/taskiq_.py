"""taskiq: one process, a hundred jobs at once, brokers that acknowledge (Redis streams, JetStream pull)."""

import asyncio
import os
import sys

from taskiq import AsyncBroker
from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import RedisStreamBroker

from bench.peers.jobs import verbs


def made() -> AsyncBroker:
    if verbs.URL.startswith("redis"):
        return RedisStreamBroker(verbs.URL)
    return PullBasedJetStreamBroker([verbs.URL], subject="taskiq", stream_name="taskiq", durable="taskiq")


broker = made()


@broker.task(task_name="noop")
async def noop(index: int, sent: float) -> None:
    verbs.noop(index, sent)


async def feed(verb: str, count: int) -> None:
    await broker.startup()
    await verbs.fed(verb, count, noop.kiq, None)
    await broker.shutdown()


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        flags = ["--workers", "1", "--max-async-tasks", str(verbs.SLOTS), "--log-level", "ERROR"]
        target = "bench.peers.jobs.taskiq_:broker"
        os.execv(sys.executable, [sys.executable, "-m", "taskiq", "worker", target, *flags])
    asyncio.run(feed(verb, count))
