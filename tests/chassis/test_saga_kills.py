"""A saga whose process is killed at any point ends complete or undone, and nothing of it twice."""

import asyncio
import multiprocessing
import signal
from uuid import UUID, uuid4

from services.chassis import saga_store
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.saga_runner import Sagas
from services.chassis.testing import until
from tests.chassis.conftest import Running
from tests.chassis.journeys import TABLES, World, complete, life

RECORDED = ("before", "within", "after")
FORWARD = [f"{when} {step}" for step in ("reserve", "pay", "tell") for when in ("before", "after")]
FORWARD += ["before made", *(f"record {n} {when}" for n in range(1, 5) for when in RECORDED)]
BACK = [f"{when} undoing {step}" for step in ("reserve", "pay") for when in ("before", "after")]
BACK += ["before taken back", *(f"record {n} {when}" for n in range(4, 8) for when in RECORDED)]
LIVES = [(point, "") for point in FORWARD] + [(point, "tell") for point in BACK]
AT_ONCE = 4  # Processes; there are two cores.


async def test_whatever_line_a_process_is_killed_at_its_saga_ends_as_a_whole(
    fresh_database: str, db: Database, running: Running
) -> None:
    await db.execute(TABLES)
    lives = {uuid4(): life for life in LIVES}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chassis.journeys"])
    room = asyncio.Semaphore(AT_ONCE)

    async def live(saga_id: UUID, point: str, refuses: str) -> int | None:
        async with room:
            process = context.Process(target=life, args=(fresh_database, str(saga_id), point, refuses))
            process.start()
            await asyncio.to_thread(process.join)
            return process.exitcode

    ends = await asyncio.gather(*(live(saga_id, *each) for saga_id, each in lives.items()))
    # 255: the fork server lost sight of it, as it does when many die at once on a busy machine.
    alive = [
        each for each, end in zip(lives.values(), ends, strict=True) if end not in (-signal.SIGKILL, 255)
    ]
    assert alive == []
    worlds = {each: World(db, each[1], name=each[0]) for each in LIVES}
    sagas = Sagas(db, Clock(), [world.saga() for world in worlds.values()], "lab")
    async with running(sagas.run()):
        await until(
            lambda: db.fetchval("select count(*) = $1 from saga where ended_at is not null", len(lives))
        )
    for saga_id, (point, refuses) in lives.items():
        world = worlds[point, refuses]
        row = await saga_store.find(db, world.kind, saga_id)
        assert complete(row.state, await world.seen(saga_id), await world.own(saga_id)), (point, refuses)
        assert row.state == ("UNDONE" if refuses else "DONE"), (point, refuses)
