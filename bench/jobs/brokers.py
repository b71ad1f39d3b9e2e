"""The servers that the peers stand on, each for the length of a block: Redis, RabbitMQ, NATS, PostgreSQL.

All survive the death of their process: Redis with its append-only file synced each second, RabbitMQ with
durable queues, NATS with files, PostgreSQL with fsync.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import psutil

from bench import machine
from bench.machine import Cores
from bench.mesh import HOST, Mesh
from bench.peers.running import listening, unused_port

DATABASE = "peers"
STOP_S = 20.0


class Missing(Exception):
    """A server that is not installed on this machine."""


@contextmanager
def redis(cores: Cores) -> Iterator[str]:
    port, program = unused_port(), _program("redis-server")
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        words = [program, "--port", str(port), "--bind", HOST, "--dir", folder, "--save", ""]
        with process([*words, "--appendonly", "yes", "--appendfsync", "everysec"], port, cores):
            yield f"redis://{HOST}:{port}/0"


@contextmanager
def rabbitmq(cores: Cores) -> Iterator[str]:
    port, program = unused_port(), _program("rabbitmq-server")
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        own = {
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(unused_port()),
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "HOME": folder,
        }
        with process([program], port, cores, own):
            yield f"amqp://guest:guest@{HOST}:{port}/%2F"


@contextmanager
def nats(cores: Cores) -> Iterator[str]:
    port, program = unused_port(), Path(sys.prefix) / "bin" / "nats-server"
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        words = [str(program), "-a", HOST, "-p", str(port), "-js", "-sd", folder]
        with process(words, port, cores):
            yield f"nats://{HOST}:{port}"


@contextmanager
def postgres(found: Mesh) -> Iterator[str]:
    """A database of its own in the mesh's cluster."""
    admin, url = found.database("postgres", superuser=True), found.database(DATABASE, superuser=True)
    asyncio.run(
        _execute(admin, f"drop database if exists {DATABASE} with (force)", f"create database {DATABASE}")
    )
    try:
        yield url
    finally:
        asyncio.run(_execute(admin, f"drop database if exists {DATABASE} with (force)"))


@contextmanager
def mesh(found: Mesh) -> Iterator[str]:
    """NATS of the mesh, where jobs travel; its queue service keeps the record."""
    yield inside(found)["WEFT_NATS_URL"]


def inside(found: Mesh) -> dict[str, str]:
    """Settings of a process that belongs to the mesh."""
    return {
        "WEFT_NATS_URL": f"nats://weft:{found.secrets['nats']}@{HOST}:{found.ports['nats']}",
        "WEFT_MESH_KEY": found.secrets["mesh_key"],
        "WEFT_MESH_ADDRESS": f"{HOST}:{found.ports['mesh']}",
        "WEFT_METRICS_ADDRESS": "",
    }


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _program(name: str) -> str:
    """RabbitMQ's own script first: the one of its package changes the user, who may not write here."""
    found = shutil.which(name, path="/usr/lib/rabbitmq/bin") or shutil.which(name)
    if not found:
        raise Missing(f"{name} is not installed (`apt-get install {name}`)")
    return found


@contextmanager
def process(
    words: Sequence[str], port: int, cores: Cores, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    started = subprocess.Popen(
        ["taskset", "-c", cores, *words],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        listening(started, port)
        yield
    finally:
        for pid in machine.tree(started.pid):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).terminate()
        started.wait(STOP_S)
