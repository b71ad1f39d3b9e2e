"""A worker that dies alone: the queue gives its jobs back, as other workers would have done."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

from services.chassis.jobs.claims import claimants
from services.chassis.jobs.streams import ACK_WAIT_S
from services.chassis.testing import Lab, until
from tests.queue.plant import Plant
from weft.queue.v1.spec_pb2 import JobSpec

JOBS = 20


async def test_what_the_last_worker_held_waits_for_the_next_one_and_not_for_its_acks(
    plant: Plant, lab: Lab
) -> None:
    await plant.create("mails")  # The queue that the holder takes from.
    await plant.batch([JobSpec(type="noop", queue="mails")] * JOBS)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.worker.holder", lab.settings.nats_url, "alone", str(JOBS)]
    holder = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environ)
    assert holder.stdout
    while int(await holder.stdout.readline()) < JOBS:
        pass
    await plant.connection.flush()
    holder.kill()
    await holder.wait()

    async def nobody_claims() -> bool:
        return "alone" not in await claimants(plant.connection)

    await until(nobody_claims, ACK_WAIT_S / 2)
    came = await plant.take("mails", count=JOBS, wait_s=ACK_WAIT_S / 2)
    assert {each.deliveries for each in came} == {2}
    await plant.acknowledge(came)
