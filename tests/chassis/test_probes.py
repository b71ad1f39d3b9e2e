"""A process says over HTTP that it lives and that it is ready; and why not."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from services.chassis import probes
from services.chassis.health import Readiness
from services.chassis.probes import probing
from tests.chassis.waiting import until

PATIENCE_S = 10.0


@dataclass
class Answer:
    code: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Process:
    """What is asked, and what it is asked about."""

    port: int
    readiness: Readiness
    healthy: bool = True

    def ask(self, path: str, method: str = "GET") -> Answer:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            link.request(method, path)
            answer = link.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            link.close()

    async def asked(self, path: str, method: str = "GET") -> Answer:
        return await asyncio.to_thread(self.ask, path, method)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    async def check(self) -> None:
        if not self.healthy:
            raise TimeoutError


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """A process with one service, not yet checked."""
    readiness = Readiness()
    async with probing("127.0.0.1:0", readiness) as port:
        made = Process(port, readiness)
        readiness.add("things", [], {"database": made.check})
        yield made


async def test_metrics_are_in_prometheus_text_format(process: Process) -> None:
    answer = await process.asked("/metrics")
    assert answer.code == 200
    assert b"# TYPE weft_ready gauge" in answer.body


async def test_a_process_that_starts_is_alive_and_not_ready(process: Process) -> None:
    assert (await process.asked("/live")).code == 200
    answer = await process.asked("/ready")
    assert (answer.code, answer.json["failing"]) == (503, {"process": "starting"})


async def test_readiness_follows_the_checks_and_names_the_service_that_fails(process: Process) -> None:
    await process.readiness.round()
    answer = await process.asked("/ready")
    assert (answer.code, answer.json) == (200, {"ready": True, "failing": {}})
    process.healthy = False
    await process.readiness.round()
    answer = await process.asked("/ready")
    assert (answer.code, answer.json["failing"]) == (503, {"things": "database: TimeoutError"})
    process.healthy = True
    await process.readiness.round()
    assert (await process.asked("/ready")).code == 200


async def test_a_process_that_drains_is_alive_and_not_ready(process: Process) -> None:
    await process.readiness.round()
    await process.readiness.drain()
    assert (await process.asked("/live")).code == 200
    answer = await process.asked("/ready")
    assert (answer.code, answer.json["failing"]) == (503, {"process": "draining"})


async def test_a_hanging_event_loop_is_neither_alive_nor_ready(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.readiness.round()
    monkeypatch.setattr(probes, "BEAT_S", 0.01)
    monkeypatch.setattr(probes, "BEAT_S_MAX", 0.1)
    blocking(lambda: process.ask("/live").code == 503)  # Asks from the loop itself, which cannot run then.
    assert process.ask("/ready").json["failing"] == {"process": "hangs"}
    monkeypatch.setattr(probes, "BEAT_S_MAX", PATIENCE_S)

    async def alive() -> bool:
        return (await process.asked("/live")).code == 200

    await until(alive)


@pytest.mark.parametrize("path", ["/", "/ready/", "/live/now", "/favicon.ico", "/metrics/x"])
async def test_there_is_nothing_else(process: Process, path: str) -> None:
    assert (await process.asked(path)).code == 404


async def test_head_has_no_body_and_nothing_else_is_allowed(process: Process) -> None:
    assert await process.asked("/live", "HEAD") == Answer(200, b"")
    assert (await process.asked("/live", "POST")).code == 405
    assert (await process.asked("/metrics", "DELETE")).code == 405


async def test_one_connection_too_many_is_hung_up_on(process: Process) -> None:
    silent = [process.connect() for _ in range(probes.ASKING_MAX)]
    with process.connect() as one_more:
        assert await asyncio.to_thread(one_more.recv, 1) == b""
    for each in silent:  # These are still listened to.
        each.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert (await asyncio.to_thread(each.recv, 15)).endswith(b"200 OK")
        each.close()


async def test_who_says_nothing_is_dropped(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes._Handler, "timeout", probes.ASKING_S_MAX / 50)
    with process.connect() as silent:
        assert await asyncio.to_thread(silent.recv, 1) == b""


async def test_the_port_closes_with_the_process() -> None:
    async with probing("127.0.0.1:0", Readiness()) as port:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE_S)


async def test_no_address_is_no_port() -> None:
    async with probing("", Readiness()) as port:
        assert port == 0


def blocking(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends
