"""A whole cluster under load from outside: each kind of process is killed, and callers hear little of it."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from typing import Any

import pytest

from launcher import layout, nats
from launcher.ports import Ports
from services.chassis.bus import Bus
from tests import meshes
from tests.chaos.conftest import SETTINGS
from tests.chaos.faults import back, freeze, healthy, kill
from tests.chaos.load import Load, load
from tests.chaos.verdict import judge
from tests.meshes import Mesh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OWN = "audit,identity,notification,scheduler"
SOON_S, WINDOW_S = 10.0, 20.0  # What is promised holds from then on, and is counted for so long.
SHARE_MAX = 0.001
SERVICES, STREAMS, ENVOY = "services-1", "nats", "edge"


@dataclass
class Told:
    """What callers had of one death."""

    part: str
    failed: int  # In the first ten seconds.
    silent_s: float  # The longest time in which nobody was answered.
    later: int  # Calls after the ten seconds,
    later_failed: int  # and how many of them failed.
    back_s: float  # Until it was whole again.


@pytest.fixture(scope="module")
def cluster() -> Iterator[Mesh]:
    settings = {**SETTINGS, "WEFT_SERVICES": OWN}
    with meshes.running("--cluster", "--processes", "1", settings=settings) as mesh:
        yield mesh


def primary(mesh: Mesh) -> str:
    return next(name for name, part in mesh.parts().items() if part.get("role") == "primary")


def replica(mesh: Mesh) -> str:
    return next(name for name, part in mesh.parts().items() if part.get("role", "").startswith("replica"))


def streams(mesh: Mesh) -> dict[str, int]:
    """By stream: how many servers keep it."""
    link = HTTPConnection("127.0.0.1", mesh.ports["monitor"])
    link.request("GET", "/jsz?accounts=1&streams=1&config=1")
    told: Any = json.loads(link.getresponse().read())
    link.close()
    return {
        stream["name"]: stream["config"]["num_replicas"]
        for account in told["account_details"]
        for stream in account.get("stream_detail", [])
    }


async def strike(callers: Load, part: str) -> Told:
    """Kills it, listens to callers, and waits until nothing is missing."""
    ledger, began = callers.ledger, time.monotonic()
    ledger.struck = frozenset({part})
    first = len(ledger.failures)
    dead = kill(callers.mesh, part)
    silent, last, answered = 0.0, began, sum(ledger.answered.values())
    while time.monotonic() < began + SOON_S:
        await asyncio.sleep(0.01)
        if (now := sum(ledger.answered.values())) > answered:
            answered, last = now, time.monotonic()
        silent = max(silent, time.monotonic() - last)
    failed, calls = len(ledger.failures), answered
    ledger.struck = frozenset({f"{part}, later"})
    await asyncio.sleep(WINDOW_S)
    later_failed = len(ledger.failures) - failed
    later = sum(ledger.answered.values()) - calls + later_failed
    await back(callers.mesh, part, dead[part])
    await healthy(callers.mesh)
    return Told(
        part, failed - first, round(silent, 2), later, later_failed, round(time.monotonic() - began, 1)
    )


async def test_each_kind_of_process_may_die_under_load(cluster: Mesh) -> None:
    """The figures are printed: `-s` shows them."""
    assert set(streams(cluster).values()) == {3}
    told = []
    async with load(cluster, random.randrange(1_000_000)) as callers:
        async with callers.calling():
            await callers.progress()
            for find in (
                lambda mesh: SERVICES,
                lambda mesh: STREAMS,
                replica,
                primary,
                primary,  # Of what the first one left: the former primary must be able to take over.
                lambda mesh: ENVOY,
            ):
                told.append(await strike(callers, find(cluster)))
                print(json.dumps(asdict(told[-1])))  # noqa: T201
        await healthy(cluster)
        await judge(callers)
    assert [each for each in told if each.later_failed > SHARE_MAX * each.later] == []


@pytest.mark.parametrize("role", ["primary", "replica"])
async def test_a_postgresql_that_hangs_is_replaced(cluster: Mesh, role: str) -> None:
    """All its processes stand still, as on a disk that went away."""
    part = primary(cluster) if role == "primary" else replica(cluster)
    async with load(cluster, random.randrange(1_000_000)) as callers:
        async with callers.calling():
            await callers.progress()
            callers.ledger.struck = frozenset({part})
            pid, began = cluster.parts()[part]["pid"], time.monotonic()
            freeze(cluster, part)
            await callers.progress()
            print(f"{role} hung: served again after {time.monotonic() - began:.1f} s")  # noqa: T201
            await back(cluster, part, pid)
        await healthy(cluster)
        await judge(callers)
    assert primary(cluster) != part


async def test_streams_of_one_server_become_those_of_three(cluster: Mesh) -> None:
    password = json.loads((cluster.home / "secrets.json").read_text())["nats"]
    ports = [member.port for member in layout.members(Ports(**cluster.ports))]
    url = ",".join(f"nats://{nats.USER}:{password}@127.0.0.1:{port}" for port in ports)
    for servers in (1, 3):
        bus = Bus(url, replicas=servers)
        await bus.connect()
        await bus.ensure_stream("grown")
        await bus.kv("grown")
        infos = [await bus.js.stream_info(name) for name in ("grown", "KV_grown")]
        await bus.close()
        assert {info.config.num_replicas for info in infos} == {servers}


async def test_a_cluster_comes_back_as_it_was(cluster: Mesh) -> None:
    """After `down`, and after a kill of the supervisor: the same primary, and in step."""
    was = primary(cluster)
    assert cluster.weft("down").returncode == 0
    cluster.start()
    assert primary(cluster) == was
    kill(cluster, "supervisor")
    cluster.start()
    assert primary(cluster) == was
    await healthy(cluster)
    assert cluster.weft("psql", "identity", "-c", "select 1").returncode == 0
    assert cluster.weft("restart", "identity").returncode == 0
    assert cluster.weft("restart", was).returncode == 0
    assert cluster.weft("backup").returncode == 0
    assert primary(cluster) != was, "a restart of the primary hands over"
    await healthy(cluster)
