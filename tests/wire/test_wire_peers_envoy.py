"""Envoy before our server, as a front for gRPC, gRPC-Web and JSON."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.chassis.wire.server import Server
from tests.wire import octets as o
from tests.wire.conftest import Stubs
from tests.wire.envoy_front import fronted
from tests.wire.peers_clients import CLIENTS, Calls
from tests.wire.peers_servers import Asynchronous

PATH = "/peers.v1.EchoService"
WEB = "application/grpc-web+proto"
LARGE = 3_000_000


@pytest.fixture(scope="module")
async def front(stubs: Stubs, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    server = Server()
    stubs.grpcio.add_EchoServiceServicer_to_server(Asynchronous(stubs), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with fronted(port, tmp_path_factory.mktemp("front"), stubs.descriptor) as front:
            yield front
    finally:
        await server.stop(1.0)


@pytest.fixture(params=CLIENTS)
async def calls(request: pytest.FixtureRequest, stubs: Stubs, front: int) -> AsyncIterator[Calls]:
    async with CLIENTS[request.param](stubs, front) as calls:
        yield calls


async def test_all_four_kinds_pass_as_grpc(calls: Calls, stubs: Stubs) -> None:
    ask: Any = stubs.pb.Ask  # type: ignore[attr-defined]
    (answer,) = await calls.unary(ask(text="Grüße", padding=LARGE))
    assert (answer.text, len(answer.padding)) == ("Grüße", LARGE)
    assert [answer.index for answer in await calls.server_stream(ask(count=100))] == [*range(100)]
    (answer,) = await calls.client_stream([ask(text=str(n)) for n in range(50)])
    assert answer.index == 50
    answers = await calls.bidi([ask(text=str(n)) for n in range(20)])
    assert [answer.text for answer in answers] == [str(n) for n in range(20)]
    assert await calls.refused(ask(code=9, text="50 % of")) == (9, "50 % of")


@dataclass
class Web:
    """A gRPC-Web answer."""

    messages: list[bytes]
    trailers: dict[str, str]


async def web(front: int, rpc: str, *asks: Any) -> Web:
    body = b"".join(o.message(ask.SerializeToString()) for ask in asks)
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{front}{PATH}/{rpc}"
        answer = await client.post(url, content=body, headers={"content-type": WEB, "x-grpc-web": "1"})
    found, at = Web([], {name: value for name, value in answer.headers.items()}), 0
    while at < len(answer.content):
        flag, length = struct.unpack_from(">BI", answer.content, at)
        part = answer.content[at + 5 : at + 5 + length]
        at += 5 + length
        if flag & 0x80:
            lines = (line.split(":", 1) for line in part.decode().split("\r\n") if line)
            found.trailers.update({name.lower(): value.strip() for name, value in lines})
        else:
            found.messages.append(part)
    return found


@pytest.mark.parametrize("rpc", ["Unary", "ServerStream", "ClientStream", "Bidi"])
async def test_all_four_kinds_pass_as_grpc_web(front: int, stubs: Stubs, rpc: str) -> None:
    """Streams of requests are sent whole, as gRPC-Web's bodies are."""
    ask: Any = stubs.pb.Ask  # type: ignore[attr-defined]
    asks = [ask(text=str(n), count=3) for n in range(3 if rpc in ("ClientStream", "Bidi") else 1)]
    found = await web(front, rpc, *asks)
    answers = [stubs.pb.Answer.FromString(message) for message in found.messages]  # type: ignore[attr-defined]
    assert found.trailers["grpc-status"] == "0"
    assert [answer.text for answer in answers] == {
        "Unary": ["0"],
        "ServerStream": ["0"] * 3,
        "ClientStream": ["0,1,2"],
        "Bidi": ["0", "1", "2"],
    }[rpc]


async def test_a_refusal_passes_as_grpc_web(front: int, stubs: Stubs) -> None:
    found = await web(front, "Unary", stubs.pb.Ask(code=9, text="no"))  # type: ignore[attr-defined]
    assert (found.trailers["grpc-status"], found.trailers["grpc-message"]) == ("9", "no")


JSON = {
    "unary": ({"text": "a"}, {"text": "a", "index": 0, "padding": ""}),
    "server-stream": ({"text": "a", "count": 2}, ["a", "a"]),
    "client-stream": ([{"text": "a"}, {"text": "b"}], {"text": "a,b", "index": 2, "padding": ""}),
    "bidi": ([{"text": "a"}, {"text": "b"}], ["a", "b"]),
}


@pytest.mark.parametrize("path", JSON)
async def test_all_four_kinds_pass_as_json(front: int, path: str) -> None:
    """Streams are JSON arrays."""
    given, expected = JSON[path]
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{front}/v1/{path}", json=given)
    assert answer.status_code == 200
    found = answer.json()
    if isinstance(found, list):
        assert [each["text"] for each in found] == expected
    else:
        assert {"padding": "", "index": 0, **found} == expected


async def test_a_refusal_passes_as_json(front: int) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{front}/v1/unary", json={"code": 5, "text": "gone"})
    assert (answer.status_code, answer.headers["grpc-message"]) == (404, "gone")
