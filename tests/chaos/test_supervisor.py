"""The supervisor dies by kill -9: nothing of the mesh outlives it, and the next `up` has all data."""

import asyncio
import os
import signal

import psutil
import pytest

from tests.chaos.faults import eventually, family, healthy
from tests.chaos.load import load
from tests.chaos.verdict import judge
from tests.meshes import Mesh


@pytest.mark.timeout(240)
async def test_a_killed_supervisor_takes_its_mesh_along_and_up_brings_it_back(mesh: Mesh, seed: int) -> None:
    async with load(mesh, seed) as callers:
        async with callers.calling():
            await callers.progress()
            callers.ledger.struck = frozenset(mesh.parts())
            supervisor = mesh.parts()["supervisor"]["pid"]
            everybody = family(supervisor)
            assert len(everybody) > len(mesh.parts())
            os.kill(supervisor, signal.SIGKILL)
            await eventually("nobody is left", lambda: gone(everybody))
            await asyncio.to_thread(mesh.start)
            await callers.progress()
        await healthy(mesh)
        await judge(callers)


async def gone(processes: list[psutil.Process]) -> bool:
    return not any(lives(process) for process in processes)


def lives(process: psutil.Process) -> bool:
    """Not a zombie, which has no parent here that would bury it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
