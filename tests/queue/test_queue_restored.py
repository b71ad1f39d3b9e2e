"""A record that went back to a moment, beside streams that are empty: what is open runs, what has ended does
not."""

from pathlib import Path

import asyncpg

from services.chassis.jobs import subjects
from tests.queue.plant import Plant, envelope_of, report_on
from tests.queue.test_history import publish, recorded
from tests.queue.test_queue_faults import noted, plant_on
from tests.servers import Shared
from weft.queue.v1.spec_pb2 import JobSpec

RESTORED = Path(__file__).resolve().parents[2] / "services" / "queue" / "restored.sql"


async def restore(plant: Plant) -> None:
    """As `weft restore` does."""
    connection = await asyncpg.connect(plant.lab.settings.database_url.format(name="queue"))
    try:
        await connection.execute(RESTORED.read_text())
    finally:
        await connection.close()


async def test_what_is_open_is_published_anew_and_looked_up_before_it_runs(servers: Shared) -> None:
    async with plant_on(servers.postgres(), servers.account()) as plant:
        await plant.create("back")
        ended = (await plant.enqueue(queue="back")).job.envelope.job_id
        (came,) = await plant.take("back")
        await plant.report(report_on(envelope_of(came)))
        await plant.acknowledge([came])
        waiting = (await plant.enqueue(queue="back")).job.envelope.job_id
        (fast,) = await publish(plant, JobSpec(type="noop", queue="back"))
        await recorded(plant, fast)
        await plant.lab.bus.js.purge_stream(subjects.STREAM)
        # A server of before the restore remembers ids for two minutes; a new one knows none.
        await plant.raw("insert into steering (job_id, moves) select job_id, 7 from job")
        await restore(plant)
        again = [envelope_of(each) for each in await plant.take("back", count=2)]
        assert {each.job_id for each in again} == {waiting, fast}
        assert all(each.verify for each in again)
        assert ended not in {each.job_id for each in again}
        assert await plant.depth("back") == 0
        assert await noted(plant, waiting) > 0
