"""A whole mesh, started as a newcomer starts it, with ports and a data folder of its own."""

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from scripts.journey import Journey, travelling

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 180  # Two cores, shared with the other tests.
OFFSETS = (*range(9), *range(20, 24))
SPAN = 100  # What --port-base takes, at most.


@dataclass(frozen=True)
class Mesh:
    """The running mesh."""

    home: Path
    edge: str
    ca: Path
    admin: tuple[str, str]

    def weft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the launcher against this mesh."""
        return weft(self.home, *arguments)

    def components(self) -> dict[str, Any]:
        """By name: what `status --json` says of each part."""
        told = json.loads(self.weft("status", "--json").stdout)
        return {part["name"]: part for part in told["components"]}


def weft(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, str(ROOT / "scripts" / "weft"), *arguments]
    environment = {**os.environ, "WEFT_HOME": str(home), "WEFT_VENV": sys.prefix}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=START_S_MAX, check=False
    )


def free_base() -> int:
    """A port with SPAN free ones behind it; below those that the system hands out by itself."""
    for _ in range(100):
        base = random.randrange(20_000, 32_000 - SPAN)
        if all(_free(base + offset) for offset in OFFSETS):
            return base
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """Started once a run; every test of this folder is in the xdist group `mesh`, so in one worker."""
    home = Path(tempfile.mkdtemp(prefix="weft-e2e-", dir="/var/tmp"))
    home.chmod(0o755)
    up = weft(home, "up", "--port-base", str(free_base()))
    assert up.returncode == 0, up.stdout + up.stderr
    secrets = json.loads((home / "secrets.json").read_text())
    told = json.loads(weft(home, "status", "--json").stdout)
    port = told["ports"]["edge"]
    admin = (secrets["admin_email"], secrets["admin_password"])
    yield Mesh(home, f"https://127.0.0.1:{port}", home / "certificates" / "ca.crt", admin)
    weft(home, "down")
    shutil.rmtree(home, ignore_errors=True)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("mesh"))


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
