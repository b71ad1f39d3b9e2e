"""procrastinate on psycopg: a hundred jobs at once, woken by NOTIFY."""

import asyncio

from procrastinate import App, PsycopgConnector

from bench.peers.jobs import verbs

app = App(connector=PsycopgConnector(conninfo=verbs.URL, max_size=10))


@app.task(name="noop")
async def noop(index: int, sent: float) -> None:
    verbs.noop(index, sent)


async def feed(verb: str, count: int) -> None:
    async with app.open_async():
        await verbs.fed(verb, count, lambda index, sent: noop.defer_async(index=index, sent=sent), bulk)


async def bulk(count: int) -> None:
    await noop.batch_defer_async(*({"index": index, "sent": sent} for index, sent in verbs.jobs(count)))


async def work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=verbs.SLOTS, delete_jobs="never")


async def setup() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    verb, count = verbs.words()
    asyncio.run({"work": work, "setup": setup}[verb]() if verb in ("work", "setup") else feed(verb, count))
