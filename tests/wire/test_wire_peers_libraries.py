"""Every other gRPC of Python at one end, ours at the other: all four kinds, refusals, large and many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.wire.conftest import Stubs
from tests.wire.peers_clients import CLIENTS, Calls
from tests.wire.peers_servers import SERVERS

PAIRS = [("wire", client) for client in CLIENTS] + [
    (server, "wire") for server in SERVERS if server != "wire"
]
LARGE = 3_000_000  # Many windows and frames, and less than the largest message.


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[1]} to {pair[0]}")
async def calls(request: pytest.FixtureRequest, stubs: Stubs) -> AsyncIterator[Calls]:
    server, client = request.param
    async with SERVERS[server](stubs) as port, CLIENTS[client](stubs, port) as calls:
        yield calls


@pytest.fixture
def ask(stubs: Stubs) -> Any:
    return stubs.pb.Ask  # type: ignore[attr-defined]


async def test_a_unary_call(calls: Calls, ask: Any) -> None:
    assert [answer.text for answer in await calls.unary(ask(text="Grüße"))] == ["Grüße"]


async def test_a_server_stream(calls: Calls, ask: Any) -> None:
    assert [answer.index for answer in await calls.server_stream(ask(count=100))] == [*range(100)]
    assert await calls.server_stream(ask(count=0)) == []


async def test_a_client_stream(calls: Calls, ask: Any) -> None:
    (answer,) = await calls.client_stream([ask(text=str(n)) for n in range(100)])
    assert (answer.index, answer.text) == (100, ",".join(map(str, range(100))))
    assert [answer.index for answer in await calls.client_stream([])] == [0]


async def test_a_stream_in_both_directions(calls: Calls, ask: Any) -> None:
    answers = await calls.bidi([ask(text=str(n)) for n in range(50)])
    assert [(answer.text, answer.index) for answer in answers] == [(str(n), n) for n in range(50)]


async def test_a_refusal(calls: Calls, ask: Any) -> None:
    for code in (1, 5, 9, 16):
        assert await calls.refused(ask(code=code, text="nicht so: 50 %")) == (code, "nicht so: 50 %")


async def test_large_messages_both_ways(calls: Calls, ask: Any) -> None:
    (answer,) = await calls.unary(ask(text="x" * LARGE, padding=1))
    assert len(answer.text) == LARGE
    answers = await calls.server_stream(ask(count=5, padding=LARGE))
    assert [len(answer.padding) for answer in answers] == [LARGE] * 5


async def test_many_calls_at_once(calls: Calls, ask: Any) -> None:
    found = await asyncio.gather(*(calls.unary(ask(text=str(n))) for n in range(200)))
    assert [answer.text for (answer,) in found] == [str(n) for n in range(200)]
