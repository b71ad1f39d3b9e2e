"""Servers in processes of their own: their memory can be measured, and a crash of theirs is seen."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import grpc.aio

from tests.wire.rig import SERVICE

ROOT = Path(__file__).parents[2]
START_S, STOP_S = 20.0, 10.0


@dataclass
class Host:
    """A running server of the rig."""

    engine: str
    port: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def complaints(self) -> str:
        """What it wrote to standard error."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    async def measure(self) -> dict[str, float]:
        """Its memory, tasks, descriptors and calls; by a call on a connection of its own."""
        async with calls(self.port) as channel:
            held: dict[str, float] = json.loads(await unary(channel, b"", method="Measure"))
            return held


@asynccontextmanager
async def hosted(engine: str, **options: Any) -> AsyncIterator[Host]:
    """A server process, which must end in peace and must not have complained."""
    command = [sys.executable, "-W", "default", "-m", "tests.wire.rig", engine, json.dumps(options)]
    with tempfile.TemporaryFile() as log:
        host = Host(engine, 0, _start(command, log), log)
        try:
            host.port = await asyncio.wait_for(asyncio.to_thread(_address, host), START_S)
            yield host
        finally:
            ended = await asyncio.to_thread(_stop, host.process)
        assert ended == 0, f"it ended with {ended}: {host.complaints()}"
        assert host.complaints() == ""


def _start(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)


def _stop(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit code; None when it had to be killed."""
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.stdout.close()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _address(host: Host) -> int:
    assert host.process.stdout
    line = host.process.stdout.readline()
    assert line, host.complaints()
    return int(line)


@asynccontextmanager
async def calls(port: int) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of a caller who behaves, shared with nobody."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel


async def unary(channel: Any, payload: bytes, method: str = "Unary", **options: Any) -> bytes:
    """One call, without protobuf."""
    options.setdefault("timeout", 10)
    answer: bytes = await channel.unary_unary(f"/{SERVICE}/{method}")(payload, **options)
    return answer
