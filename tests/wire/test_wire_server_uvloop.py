"""What depends on the event loop's transports holds on uvloop's as well."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from tests.wire import octets as o
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.served import PATIENT, serving_in_thread

WIDE = 2**30
LIMITS = replace(PATIENT, unsent_bytes_max=100_000, stalled_s=0.2, handshake_s=0.2, linger_s=0.1)


class Ended:
    """Says when a handler that waits for ever has ended."""

    def __init__(self) -> None:
        self.event = threading.Event()

    async def __call__(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            return b"|".join([request async for request in requests])
        finally:
            self.event.set()


async def large(request: bytes, context: Any) -> bytes:
    return bytes(int(request or b"0"))


async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
    while True:
        yield bytes(16_000)


@pytest.fixture(scope="module")
def ended() -> Ended:
    return Ended()


@pytest.fixture(scope="module")
def port(ended: Ended) -> Iterator[int]:
    kinds = {"Unary": large, "ServerStream": endless, "ClientStream": ended}
    with serving_in_thread(uvloop.new_event_loop, limits=LIMITS, **kinds) as found:
        yield found


async def test_a_fault_is_told_before_the_connection_ends(port: int) -> None:
    async with await Peer.greeted(port) as peer:
        # What the server has not read must not take its GOAWAY away.
        await peer.send(o.data(1), bytes(2_000_000))
        assert await peer.fault() == o.PROTOCOL_ERROR


async def test_a_silent_peer_is_cut(port: int) -> None:
    async with await Peer.open(port) as peer:
        assert await peer.fault() == o.SETTINGS_TIMEOUT


@pytest.fixture
def waiting_port() -> Iterator[int]:
    """Of a server that cuts nobody who was away for a moment, as this process may be on a busy machine."""
    patient = replace(LIMITS, stalled_s=PATIENT.stalled_s)
    with serving_in_thread(uvloop.new_event_loop, limits=patient, Unary=large) as found:
        yield found


async def test_a_peer_that_reads_late_gets_everything(waiting_port: int) -> None:
    async with await Peer.greeted(waiting_port, (o.INITIAL_WINDOW_SIZE, WIDE)) as peer:
        await peer.send(o.window_update(0, WIDE))
        sent = [request(2 * number + 1, b"16000") for number in range(1_000)]
        writing = asyncio.create_task(peer.send(*sent))
        await asyncio.sleep(0.1)
        for number in (0, 500, 999):
            response = await peer.response(2 * number + 1, within=20)
            assert (response.status, len(response.body)) == (0, 16_005)
        await writing


async def test_a_peer_that_never_reads_is_cut(port: int) -> None:
    async with await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, WIDE)) as peer:
        ask = o.headers(1, asking("ServerStream")) + o.data(1, o.message(), o.END_STREAM)
        await peer.send(o.window_update(0, WIDE), ask)
        await asyncio.sleep(0.6)
        assert o.GOAWAY not in [frame.kind for frame in await peer.rest(within=20)]


@pytest.mark.parametrize("how", ["reset", "disconnect"])
async def test_a_caller_who_goes_away_cancels_the_handler(port: int, ended: Ended, how: str) -> None:
    ended.event.clear()
    async with await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("ClientStream")))
        await peer.pong()
        if how == "reset":
            await peer.send(o.rst_stream(1))
        else:
            peer.close()
        assert await asyncio.to_thread(ended.event.wait, 5)


async def test_large_answers_share_the_connection(port: int) -> None:
    async with await Peer.greeted(port, (o.INITIAL_WINDOW_SIZE, WIDE)) as peer:
        await peer.send(o.window_update(0, WIDE), request(1, b"3000000"), request(3, b"3000000"))
        for stream in (1, 3):
            assert len((await peer.response(stream)).body) == 3_000_005


async def test_a_stop_says_good_bye(ended: Ended) -> None:
    with serving_in_thread(uvloop.new_event_loop, limits=LIMITS) as port:
        peer = await Peer.greeted(port)
        await peer.send(hanging(1))
        await peer.pong()
    async with peer:
        assert [frame.code for frame in await peer.rest() if frame.kind == o.GOAWAY][-1:] == [o.NO_ERROR]
