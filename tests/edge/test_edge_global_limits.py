"""Two Envoys ask one ratelimit service: they share what it lets through, and do as declared without it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from envoy import bootstrap, global_limits, settings
from envoy.binary import binary
from services.chassis.testing import Lab, laboratory, until
from services.ratelimit.app import build
from tests.edge.conftest import Edge, free_ports, values_of
from tests.edge.probe import Probe, Schema
from tests.servers import Shared, free_port
from weft.ratelimit.v1 import ratelimit_pb2 as pb
from weft.ratelimit.v1.ratelimit_pb2_grpc import RateLimitServiceStub

OPEN, CLOSED = "weft.probe.v1.ProbeService.OldThing", "weft.probe.v1.ProbeService.SuspendThing"


@contextmanager
def envoys(descriptor: Path, folder: Path, probe: Probe, limiter: str) -> Iterator[list[Edge]]:
    """Two, started at once."""
    running: list[Edge] = []
    try:
        for name in ("one", "two"):
            (own := folder / name).mkdir()
            values = values_of(descriptor, own, [probe.address], free_ports(5))
            values["services"]["ratelimit"] = [limiter]
            values["health"]["ratelimit"] = "weft.ratelimit.v1.RateLimitService"
            values["ports"]["https"] = None
            values["global_limits"] = {"closed": [CLOSED], "headers": ["x-tenant"]}
            chosen = settings.from_values(values)
            command = [str(binary()), "-c", str(bootstrap.write(chosen, own / "out")), "--concurrency", "1"]
            with (own / "envoy.log").open("wb") as log:
                words = [*command, "--disable-hot-restart", "--log-level", "warning"]
                process = subprocess.Popen(words, stdout=log, stderr=log)
            running.append(Edge(chosen, own / "out", probe, process))
        yield running
    finally:
        for each in running:
            each.envoy.terminate()
        for each in running:
            each.envoy.wait(10)


class World:
    """Both doors, and the service behind them, which may be stopped."""

    def __init__(self, probe: Probe, limiter: AsyncExitStack, lab: Lab) -> None:
        self.probe, self.limiter, self.lab = probe, limiter, lab
        self.stub = RateLimitServiceStub(lab.channel)
        self.doors: list[httpx.AsyncClient] = []

    async def limit(self, name: str, prefix: str, **values: Any) -> None:
        given = {"key": pb.KEY_KIND_USER, "unit": pb.UNIT_HOUR, "requests": 5, **values}
        made = pb.RateLimitSettings(name=name, match={"prefix": prefix}, **given)
        asked = pb.CreateRateLimitRequest(rate_limit_id=str(uuid4()), settings=made)
        await self.stub.CreateRateLimit(asked, metadata=self.lab.bearer())

    def bearer(self, subject: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.probe.token(sub=subject)}"}

    async def get(self, door: int, subject: str, path: str = "/v1/old") -> httpx.Response:
        return await self.doors[door].get(path, headers=self.bearer(subject))

    async def suspend(self, door: int) -> httpx.Response:
        """A call of the closed rpc."""
        return await self.doors[door].post("/v1/things/7:suspend", headers=self.bearer("u"), json={})


@pytest.fixture
async def world(
    servers: Shared, descriptor: Path, schema: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(global_limits, "TIMEOUT", timedelta(seconds=10))  # A busy machine may take its time.
    limiter = f"127.0.0.1:{free_port()}"
    probe = Probe(schema, free_port())
    probe.start()
    async with AsyncExitStack() as stack, AsyncExitStack() as serving:
        stack.callback(probe.stop)
        running = stack.enter_context(envoys(descriptor, tmp_path, probe, limiter))
        environ = {"WEFT_RATELIMIT_CLOSED": CLOSED, "WEFT_RATELIMIT_HEADERS": "x-tenant"}
        serves = laboratory(
            {"ratelimit": lambda tools: build(tools, environ)},
            postgres_url=servers.postgres(),
            nats_url=servers.account(),
            settings={"address": limiter, "drain_s": 0.1},
        )
        made = World(probe, serving, await serving.enter_async_context(serves))
        for each in running:
            client = httpx.AsyncClient(base_url=each.url("http"), timeout=10)
            made.doors.append(await stack.enter_async_context(client))
            await until(lambda each=each: asyncio.to_thread(_serves, each))  # type: ignore[misc]
        yield made


def _serves(edge: Edge) -> bool:
    """Healthy, with its keys fetched."""
    if edge.get("stats", "/healthz")[0] != 200:
        return False
    token = {"authorization": f"Bearer {edge.probe.token(sub='first')}"}
    return httpx.get(edge.url("http") + "/v1/things/1", headers=token).status_code == 200


async def test_two_envoys_share_a_limit_and_do_as_declared_without_it(world: World) -> None:
    await world.limit("shared", OPEN)
    await world.limit("vault", CLOSED, failure=pb.FAILURE_RULE_CLOSED, requests=1_000)
    await world.limit("tenants", "/v1/things/", key=pb.KEY_KIND_HEADER, header="x-tenant", requests=1)

    answers = [await world.get(n % 2, "shared") for n in range(8)]
    assert [each.status_code for each in answers] == [200] * 5 + [429] * 3
    assert answers[0].headers["ratelimit"].startswith('"shared";r=4;t=')
    assert answers[0].headers["ratelimit-policy"] == '"shared";q=5;w=3600'
    assert answers[0].headers["x-ratelimit-limit"].startswith("200")  # The edge's own, once.
    over = answers[-1]
    assert over.json()["details"][0]["reason"] == "TOO_MANY_CALLS"
    assert 0 < int(over.headers["retry-after"]) <= 720
    assert (await world.get(0, "another")).status_code == 200

    for door, status in ((0, 200), (1, 429)):
        headers = {"x-tenant": "t"}
        answer = await world.doors[door].get("/v1/things/7", headers=headers)
        assert answer.status_code == status
    assert (await world.doors[0].get("/v1/things/7")).status_code == 200

    assert (await world.suspend(0)).status_code == 200
    await world.limiter.aclose()

    async def closed() -> bool:
        return all([(await world.suspend(door)).status_code == 503 for door in (0, 1)])

    await until(closed)
    assert [(await world.get(door, "shared")).status_code for door in (0, 1)] == [200, 200]
    refused = await world.suspend(0)
    assert refused.json()["message"] == "Whether the call may pass cannot be told now."
    assert refused.json()["details"][0]["reason"] == "LIMITS_UNKNOWN"
    assert refused.headers["retry-after"] == "1"
