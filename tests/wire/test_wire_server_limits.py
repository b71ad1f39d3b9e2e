"""What one caller may use: streams, calls, connections, time, header lists; and what happens beyond it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.wire import octets as o
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.served import PATIENT, channel, path, serving

MOMENT_S = 0.05
WAIT_S = 5.0


class Crowd:
    """A handler that waits with all others, and counts them."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.open = asyncio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
        finally:
            self.now -= 1
        return request

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.now != count:  # noqa: ASYNC110 - counted by the handlers of any connection
                await asyncio.sleep(0.001)


async def test_streams_beyond_the_announced_number_are_refused_and_may_be_tried_again() -> None:
    crowd = Crowd()
    async with serving(replace(PATIENT, streams_max=2), Unary=crowd) as (_, port):
        async with await Peer.greeted(port) as peer:
            (settings,) = [f.settings for f in peer.seen if f.kind == o.SETTINGS and not f.flags]
            assert dict(settings)[o.MAX_CONCURRENT_STREAMS] == 2
            await peer.send(request(1), request(3), request(5))
            assert await peer.reset(5) == o.REFUSED_STREAM
            crowd.open.set()
            assert [(await peer.response(stream)).status for stream in (1, 3)] == [0, 0]
            await peer.send(request(7))
            assert (await peer.response(7)).status == 0
        assert crowd.most == 2


async def test_a_client_that_keeps_to_the_number_gets_all_its_calls_through() -> None:
    crowd = Crowd()
    crowd.open.set()
    async with serving(replace(PATIENT, streams_max=3), Unary=crowd) as (_, port), channel(port) as client:
        call = client.unary_unary(path("Unary"))
        answers = await asyncio.gather(*(call(b"%d" % number) for number in range(100)))
    assert answers == [b"%d" % number for number in range(100)]


async def test_calls_beyond_the_servers_number_are_exhausted_whatever_their_connection() -> None:
    crowd = Crowd()
    limits = replace(PATIENT, calls_max=2)
    async with (
        serving(limits, Unary=crowd) as (_, port),
        await Peer.greeted(port) as one,
        await Peer.greeted(port) as other,
    ):
        await one.send(request(1), request(3))
        await crowd.reaches(2)
        await other.send(request(1))
        assert (await other.response()).status == 8
        crowd.open.set()
        assert (await one.response(3)).status == 0
        await other.send(request(3))
        assert (await other.response(3)).status == 0


async def test_handlers_that_refuse_to_end_are_counted_though_their_streams_are_gone() -> None:
    stubborn = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue
        return request

    limits = replace(PATIENT, streams_max=2)
    async with (
        serving(limits, Unary=handler) as (server, port),
        await Peer.greeted(port) as peer,
    ):
        for stream in (1, 3, 5, 7):
            await peer.send(request(stream))
            await peer.pong()
            await peer.send(o.rst_stream(stream))
        await peer.send(request(9))
        refused = (await peer.response(9)).status if await peer.pong() else None
        stubborn.set()
        assert refused == 8
        async with asyncio.timeout(WAIT_S):
            while not server.is_quiet:  # noqa: ASYNC110 - the handlers are nobody's to be waited for
                await asyncio.sleep(0.001)
        await peer.send(request(11))
        assert (await peer.response(11)).status == 0


async def test_connections_beyond_the_number_are_cut() -> None:
    async with serving(replace(PATIENT, connections_max=1)) as (server, port):
        async with await Peer.greeted(port) as one:
            async with await Peer.open(port) as other:
                assert await other.rest() == []
            await one.send(request())
            assert (await one.response()).status == 0
        async with asyncio.timeout(WAIT_S):
            while server.connections:  # noqa: ASYNC110 - the peer's end of it comes by the socket
                await asyncio.sleep(0.001)
        async with await Peer.greeted(port):
            assert len(server.connections) == 1


@pytest.mark.parametrize("sent", [b"", o.PREFACE[:5], o.PREFACE, o.PREFACE + o.settings()[:8]])
async def test_a_peer_that_does_not_say_settings_in_time_is_cut(sent: bytes) -> None:
    async with serving(replace(PATIENT, handshake_s=MOMENT_S)) as (_, port), await Peer.open(port) as peer:
        await peer.send(sent)
        assert await peer.fault() == o.SETTINGS_TIMEOUT


async def test_a_header_block_that_does_not_end_in_time_ends_the_connection() -> None:
    limits = replace(PATIENT, header_block_s=MOMENT_S)
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking(), 0))
        assert await peer.fault() == o.ENHANCE_YOUR_CALM
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking(), 0), o.continuation(1, [("x-a", "b")]))
        await asyncio.sleep(2 * MOMENT_S)
        await peer.send(o.data(1, o.message(b"x"), o.END_STREAM))
        assert (await peer.response()).status == 0


async def test_a_unary_request_that_does_not_come_whole_in_time_is_ended() -> None:
    limits = replace(PATIENT, request_s=MOMENT_S, sweep_s=MOMENT_S / 2)
    crowd = Crowd()
    async with serving(limits, Unary=crowd) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking()), o.data(1, o.message(b"half")[:7]))
        await peer.send(hanging(3))
        await crowd.reaches(1)
        assert (await peer.response(1)).status == 4
        await asyncio.sleep(2 * MOMENT_S)
        assert crowd.now == 1
        assert not [frame for frame in peer.seen if frame.stream == 3]


async def test_header_lists_above_the_bound_are_refused_and_the_connection_lives() -> None:
    async with serving(replace(PATIENT, header_list_bytes_max=2_000)) as (_, port):
        async with await Peer.greeted(port) as peer:
            await peer.send(o.headers(1, asking("Unary", ("x-long", "v" * 3_000)), o.WHOLE))
            response = await peer.response()
            assert (response.status, response.headers["grpc-status"]) == (8, "8")
            await peer.send(request(3))
            assert (await peer.response(3)).status == 0
        async with channel(port) as client:
            call = client.unary_unary(path("Unary"))
            assert await call(b"x") == b"x"
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(b"", metadata=(("x-long", "v" * 3_000),))
            assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_silent_peer_is_asked_for_a_sign_of_life_and_then_cut() -> None:
    limits = replace(PATIENT, keepalive_s=MOMENT_S, keepalive_timeout_s=MOMENT_S, keepalive_idle=True)
    async with serving(limits) as (_, port):
        async with await Peer.greeted(port) as dead:
            frames = await dead.rest()
            assert o.PING in [frame.kind for frame in frames]
        async with await Peer.greeted(port) as alive:
            for _ in range(3):
                ping = await alive.until(lambda frame: frame.kind == o.PING)
                await alive.send(o.ping(ping.payload, o.ACK))
            await alive.send(request())
            assert (await alive.response()).status == 0


async def test_an_idle_peer_is_asked_only_if_so_set() -> None:
    limits = replace(PATIENT, keepalive_s=MOMENT_S, keepalive_timeout_s=MOMENT_S)
    crowd = Crowd()
    async with serving(limits, Unary=crowd) as (_, port), await Peer.greeted(port) as peer:
        await asyncio.sleep(4 * MOMENT_S)
        await peer.pong()
        assert o.PING not in [frame.kind for frame in peer.seen if not frame.flags]
        await peer.send(request())
        await peer.until(lambda frame: frame.kind == o.PING and not frame.flags)


async def test_a_peer_that_pings_too_often_is_told_so() -> None:
    limits = replace(PATIENT, ping_interval_s=60.0)
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        for _ in range(3):
            await peer.pong()
        await peer.send(o.ping())
        last = await peer.goodbye()
    assert (last.code, last.payload[8:]) == (o.ENHANCE_YOUR_CALM, b"too_many_pings")


async def test_pings_between_messages_are_no_strikes() -> None:
    """grpcio measures its bandwidth so."""
    limits = replace(PATIENT, ping_interval_s=60.0)
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        for number in range(20):
            await peer.send(request(2 * number + 1))
            await peer.response(2 * number + 1)
            await peer.pong()
    async with serving(limits) as (_, port), channel(port, **{"http2.bdp_probe": 1}) as client:
        for _ in range(20):
            await client.unary_unary(path("Unary"))(bytes(200_000))
