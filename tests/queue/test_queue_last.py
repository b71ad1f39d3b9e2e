"""Services start in any order: what was asked of the queue before it ever ran is there when it does."""

from services.chassis.host import Parts, Tools
from services.chassis.jobs.enqueue import request, spec
from services.chassis.testing import laboratory, until
from services.queue.app import build
from tests.queue.plant import Plant, envelope_of
from tests.servers import Shared


def nothing(tools: Tools) -> Parts:
    """A service that asks for jobs, and consumes nothing of the queue's."""
    return Parts()


async def test_jobs_asked_for_before_the_queue_ever_ran_are_run(servers: Shared) -> None:
    postgres_url, nats_url = servers.postgres(), servers.account()
    jobs = [spec("noop") for _ in range(3)]
    async with laboratory({"stub": nothing}, postgres_url=postgres_url, nats_url=nats_url) as early:
        db = early.db("stub")
        async with db.transaction() as tx:
            await request(tx, *jobs)

        async def published() -> bool:
            relayed = await db.fetchval("select position from relay where service = 'stub'")
            return relayed == await db.fetchval("select max(position) from event")

        await until(published)
    async with (
        laboratory({"queue": build}, postgres_url=postgres_url, nats_url=nats_url) as late,
        Plant.of(late) as plant,
    ):
        came = await plant.take(count=3)
        assert {envelope_of(each).job_id for each in came} == {job.job_id for job in jobs}
