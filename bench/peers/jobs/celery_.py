"""Celery: prefork, two children, the defaults otherwise; no result backend."""

import asyncio

from celery import Celery

from bench.peers.jobs import verbs

app = Celery("bench", broker=verbs.URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
QUIET = ["--loglevel=ERROR", "--without-gossip", "--without-mingle"]


@app.task(name="noop", acks_late=True)
def noop(index: int, sent: float) -> None:
    verbs.noop(index, sent)


if __name__ == "__main__":
    verb, count = verbs.words()
    if verb == "work":
        app.worker_main(["worker", "--concurrency=2", *QUIET])
    else:
        asyncio.run(verbs.fed(verb, count, noop.delay, None))
