"""Dramatiq: one process with eight threads, its default."""

import asyncio
import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

from bench.peers.jobs import verbs

kind = RedisBroker if verbs.URL.startswith("redis") else RabbitmqBroker
dramatiq.set_broker(kind(url=verbs.URL))


@dramatiq.actor
def noop(index: int, sent: float) -> None:
    verbs.noop(index, sent)


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        module = "bench.peers.jobs.dramatiq_"
        os.execv(sys.executable, [sys.executable, "-m", "dramatiq", module, "-p", "1", "-t", "8"])
    asyncio.run(verbs.fed(verb, count, noop.send, None))
