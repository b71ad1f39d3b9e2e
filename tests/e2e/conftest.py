"""A whole mesh, started as a newcomer starts it, with ports and a data folder of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import pytest

from scripts.journey import Journey, travelling
from tests import meshes
from tests.meshes import Mesh


@pytest.fixture(scope="package")
def mesh() -> Iterator[Mesh]:
    """Started once for the folder, whose tests all run in one worker."""
    with meshes.running() as mesh:
        yield mesh


@pytest.fixture
async def journey(mesh: Mesh) -> AsyncIterator[Journey]:
    """A person who has not registered yet."""
    async with travelling(mesh.edge, mesh.ca, mesh.admin) as one:
        yield one


@pytest.fixture
async def member(journey: Journey) -> Journey:
    """A person with an account, signed in."""
    await journey.register()
    await journey.confirm()
    await journey.sign_in()
    return journey


async def eventually(call: Any, wait_s: float = 30.0) -> Any:
    """The answer of `call()` once the mesh is back; UNAVAILABLE until then is what callers retry."""
    async with asyncio.timeout(wait_s):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)
