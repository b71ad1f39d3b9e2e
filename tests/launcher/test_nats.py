"""NATS as the launcher configures it: streams of before are kept, and the mesh hears who disconnected."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from launcher import nats
from launcher.credentials import Credentials
from launcher.ports import Ports
from launcher.problem import Problem
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.servers import Options
from tests.chassis.waiting import until
from tests.servers import free_port


@contextmanager
def running(configuration: Path) -> Iterator[None]:
    with (configuration.parent / "log").open("ab") as log:
        process = subprocess.Popen(nats.command(configuration), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def connected(url: str, name: str = "test") -> AsyncIterator[Connection]:
    connection = Connection(Options.of(url, name=name))

    async def opened() -> bool:
        try:
            await connection.open()
        except OSError:
            return False
        return True

    await until(opened)
    yield connection
    await connection.close()


async def test_streams_are_kept_and_the_end_of_a_connection_is_told(tmp_path: Path) -> None:
    ports = Ports(nats=free_port(), monitor=free_port())
    secret = Credentials.of(tmp_path / "secrets.json", [])
    url = f"nats://{nats.USER}:{secret.nats}@127.0.0.1:{ports.nats}"
    configuration = nats.write(tmp_path, ports, secret)
    before = json.loads(configuration.read_text())
    del before["accounts"], before["system_account"]
    before["authorization"] = {"user": nats.USER, "password": secret.nats}
    configuration.write_text(json.dumps(before))
    with running(configuration):
        async with connected(url) as connection:
            await connection.api("STREAM.CREATE.kept", {"name": "kept", "subjects": ["kept"]})
            await connection.request("kept", b"still here")
    with running(nats.write(tmp_path, ports, secret)):
        async with connected(url) as connection:
            assert (await connection.api("STREAM.INFO.kept"))["state"]["messages"] == 1
            told: list[Message] = []
            connection.subscribe("$SYS.ACCOUNT.*.DISCONNECT", told.extend)
            await connection.flush()
            async with connected(url, name="somebody"):
                await asyncio.sleep(0)
            await until(lambda: told)
            assert told[0].subject.decode() == nats.ENDED
            assert json.loads(told[0].payload)["client"]["name"] == "somebody"


def test_how_often_streams_are_synced_is_the_operators_choice() -> None:
    assert nats.sync_interval({}) == "always"
    assert nats.sync_interval({nats.SYNC_VARIABLE: "10s"}) == "10s"
    for wrong in ("never", "10", "0s", "10s; x"):
        with pytest.raises(Problem, match="WEFT_NATS_SYNC must be"):
            nats.sync_interval({nats.SYNC_VARIABLE: wrong})
