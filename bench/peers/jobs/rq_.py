"""rq: its worker that does not fork for each job, the faster one; results are not kept."""

import asyncio
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker

from bench.peers.jobs import verbs

connection = Redis.from_url(verbs.URL or "redis://localhost")
queue = Queue(connection=connection)


def enqueue(index: int, sent: float) -> Any:
    return queue.enqueue(verbs.noop, index, sent, result_ttl=0)


def bulk(count: int) -> None:
    queue.enqueue_many(
        [Queue.prepare_data(verbs.noop, arguments, result_ttl=0) for arguments in verbs.jobs(count)]
    )


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        SimpleWorker([queue], connection=connection).work(logging_level="ERROR")
    else:
        asyncio.run(verbs.fed(verb, count, enqueue, bulk))
