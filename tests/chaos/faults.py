"""What is done to the parts of a running mesh, by their pids, and how one waits for their return."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import psutil
from grpc.aio import AioRpcError, insecure_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.meshes import Mesh

PARTS = ("audit", "identity", "notification", "nats", "postgres", "edge")
WAIT_S = 90.0  # Generous: the machine is busy, and a part that died young is restarted later and later.
POLL_S = 0.05


async def eventually(what: str, ask: Callable[[], Awaitable[bool]]) -> None:
    """Until `ask` says so."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not await ask():  # noqa: ASYNC110 - other processes are asked
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def kill(mesh: Mesh, *parts: str) -> dict[str, int]:
    """kill -9 of all of them. Returns the pids that are no more."""
    pids = {part: int(mesh.parts()[part]["pid"]) for part in parts}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    return pids


async def back(mesh: Mesh, part: str, pid: int) -> None:
    async def there() -> bool:
        now = mesh.parts()[part]
        return now["phase"] == "ready" and now["pid"] not in (pid, None)

    await eventually(f"{part} is back", there)


async def is_healthy(mesh: Mesh) -> bool:
    """What the exit code of `weft status` says."""
    return (await asyncio.to_thread(mesh.weft, "status")).returncode == 0


async def healthy(mesh: Mesh) -> None:
    await eventually("status is 0", lambda: is_healthy(mesh))


async def unhealthy(mesh: Mesh) -> None:
    async def ill() -> bool:
        return not await is_healthy(mesh)

    await eventually("status is not 0", ill)


async def readiness(mesh: Mesh, part: str) -> str:
    """What a process says of itself by grpc.health, on its own port."""
    async with insecure_channel(f"127.0.0.1:{mesh.parts()[part]['port']}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=part), timeout=5)
        except AioRpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def family(pid: int) -> list[psutil.Process]:
    """A process and its children, which PostgreSQL has."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def freeze(mesh: Mesh, part: str) -> list[psutil.Process]:
    """Stops a part where it stands, as a paused virtual machine does."""
    frozen = family(mesh.parts()[part]["pid"])
    for process in frozen:
        process.suspend()
    return frozen


def thaw(frozen: list[psutil.Process]) -> None:
    for process in frozen:
        try:
            process.resume()
        except psutil.NoSuchProcess:
            continue
