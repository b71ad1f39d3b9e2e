"""Connections come when they are needed, are shared, drained and replaced; calls see as little as can be."""

from __future__ import annotations

import asyncio

import pytest
from grpc import ChannelConnectivity as State, StatusCode

from services.chassis.wire.client import Pace, RpcError, ServiceConfig
from services.chassis.wire.client.service_config import Balancing
from services.chassis.wire.limits import Limits
from services.chassis.wire.server import Server
from tests.wire import octets as o
from tests.wire.answering import answering, path
from tests.wire.channels import NOBODY, calling, code, until
from tests.wire.peer import QUIET_S, Closed
from tests.wire.scripted import Accepted, scripted
from tests.wire.served import PATIENT, handler


async def test_a_channel_connects_when_it_is_used_and_tells_its_states() -> None:
    async with answering("wire") as port, calling(port) as (channel, unary):
        assert channel.get_state() is State.IDLE
        call = unary(b"x")
        assert channel.get_state() is State.CONNECTING
        await channel.wait_for_state_change(State.CONNECTING)
        assert channel.get_state() is State.READY
        assert await call == b"x"
    assert channel.get_state() is State.SHUTDOWN
    assert await code(unary(b"x")) is StatusCode.CANCELLED


async def test_a_channel_can_be_made_ready_before_it_is_used() -> None:
    async with answering("wire") as port, calling(port) as (channel, _):
        await asyncio.wait_for(channel.channel_ready(), 5)
        assert channel.get_state() is State.READY


async def test_nobody_there_is_unavailable_at_once() -> None:
    async with calling(NOBODY, pace=Pace()) as (channel, unary):
        with pytest.raises(RpcError) as error:
            await unary(b"x")
        assert error.value.code() is StatusCode.UNAVAILABLE
        assert NOBODY in error.value.details()
        assert channel.get_state() is State.TRANSIENT_FAILURE
        assert await code(unary(b"x")) is StatusCode.UNAVAILABLE


async def test_who_waits_for_ready_waits_until_the_deadline() -> None:
    async with calling(NOBODY) as (_, unary):
        call = unary(b"x", timeout=0.2, wait_for_ready=True)
        assert await code(call) is StatusCode.DEADLINE_EXCEEDED


async def test_who_waits_for_ready_is_served_when_somebody_comes() -> None:
    async with answering("wire") as port:
        pass
    async with calling(port) as (_, unary):
        assert await code(unary(b"x")) is StatusCode.UNAVAILABLE
        call = unary(b"late", wait_for_ready=True, timeout=5)
        there = Server(PATIENT)
        there.add_generic_rpc_handlers((handler(),))
        there.add_insecure_port(f"127.0.0.1:{port}")
        await there.start()
        assert await call == b"late"
        await there.stop(0)


async def test_a_lost_connection_fails_its_calls_and_the_next_gets_another() -> None:
    async def leave(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        peer.close()

    async with scripted(leave) as server, calling(server.port) as (_, unary):
        assert await code(unary(b"x")) is StatusCode.UNAVAILABLE
        assert await unary(b"y") == b"y"
        assert len(server.connections) == 2


async def test_goaway_lets_finish_what_is_taken_and_sends_the_rest_elsewhere() -> None:
    """RFC 9113 §6.8: streams above the last were not processed."""

    async def go(peer: Accepted) -> None:
        await peer.greet()
        taken, refused = await peer.call(), await peer.call()
        await peer.send(o.goaway(taken.stream))
        await peer.answer(taken, b"old")
        assert refused.stream == 3
        await peer.until(lambda frame: frame.kind == o.GOAWAY)

    async def new(peer: Accepted) -> None:
        await peer.greet()
        for _ in range(2):
            await peer.answer(await peer.call(), b"new")

    async with scripted(go, new) as server, calling(server.port) as (_, unary):
        calls = [unary(b"1", timeout=5), unary(b"2", timeout=5)]
        assert [await call for call in calls] == [b"old", b"new"]
        assert await unary(b"3") == b"new"


async def test_a_first_goaway_that_names_no_stream_keeps_all_calls() -> None:
    """§6.8: a server that drains says 2^31-1 first."""

    async def go(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await peer.send(o.goaway(2**31 - 1))
        await peer.pong()
        await peer.send(o.goaway(asked.stream))
        await peer.answer(asked, b"old")

    async with scripted(go) as server, calling(server.port) as (_, unary):
        assert await unary(b"1", timeout=5) == b"old"
        assert await unary(b"2", timeout=5) == b"2"
        assert len(server.connections) == 2


async def test_a_refused_stream_is_tried_once_more() -> None:
    """gRFC A6, "Transparent Retries"."""

    async def refuse(peer: Accepted) -> None:
        await peer.greet()
        for answered in (True, False):
            await peer.send(o.rst_stream((await peer.call()).stream, o.REFUSED_STREAM))
            again = await peer.call()
            assert "grpc-previous-rpc-attempts" not in dict(again.fields)
            if answered:
                await peer.answer(again, *again.messages)
            else:
                await peer.send(o.rst_stream(again.stream, o.REFUSED_STREAM))
        await peer.pong()
        assert sum(frame.kind == o.HEADERS for frame in peer.seen) == 4

    async with scripted(refuse) as server, calling(server.port) as (_, unary):
        assert await unary(b"x", timeout=5) == b"x"
        assert await code(unary(b"y", timeout=5)) is StatusCode.UNAVAILABLE


async def test_a_refused_stream_of_requests_is_replayed() -> None:
    async def refuse(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(o.rst_stream((await peer.call()).stream, o.REFUSED_STREAM))
        again = await peer.call()
        assert again.messages == [b"1", b"2", b"3"]
        await peer.answer(again, b"all")

    async with scripted(refuse) as server, calling(server.port) as (channel, _):
        call = channel.stream_unary(path("ClientStream"))(iter([b"1", b"2", b"3"]), timeout=5)
        assert await call == b"all"


async def test_calls_wait_for_streams_in_their_order() -> None:
    """RFC 9113 §5.1.2. A waiting call can be cancelled, and its deadline counts."""

    async def two_at_a_time(peer: Accepted) -> None:
        await peer.greet((o.MAX_CONCURRENT_STREAMS, 2))
        first, second = await peer.call(), await peer.call()
        await peer.pong()
        assert [f.stream for f in peer.seen if f.kind == o.HEADERS] == [1, 3]
        await peer.answer(first, b"1")
        third = await peer.call()
        assert third.messages == [b"3"]
        await peer.send(o.settings((o.MAX_CONCURRENT_STREAMS, 100)))
        for asked in (second, third, await peer.call()):
            await peer.answer(asked, asked.body[5:])

    async with scripted(two_at_a_time) as server, calling(server.port) as (channel, unary):
        await channel.channel_ready()
        late, cancelled = unary(b"late", timeout=0.05), None
        calls = [unary(b"%d" % number, timeout=5) for number in (2, 3)]
        cancelled = unary(b"cancelled")
        calls.append(unary(b"4", timeout=5))
        cancelled.cancel()
        assert await code(late) in (StatusCode.OK, StatusCode.DEADLINE_EXCEEDED)
        assert [await call for call in calls] == [b"2", b"3", b"4"]


async def test_more_connections_are_opened_up_to_their_bound() -> None:
    """gRFC A105."""
    release = asyncio.Event()

    async def one_at_a_time(peer: Accepted) -> None:
        await peer.greet((o.MAX_CONCURRENT_STREAMS, 1))
        while True:
            asked = await peer.call()
            await release.wait()
            await peer.answer(asked, *asked.messages)

    async def play(peer: Accepted) -> None:
        try:
            await one_at_a_time(peer)
        except (Closed, TimeoutError):
            return

    config = ServiceConfig(connections_max=3)
    async with scripted(play, play, play, play) as server, calling(server.port, config=config) as (_, unary):
        calls = [unary(b"%d" % number, timeout=10) for number in range(12)]
        await until(lambda: len(server.connections) == 3)
        await asyncio.sleep(QUIET_S)
        assert len(server.connections) == 3
        release.set()
        assert [await call for call in calls] == [b"%d" % number for number in range(12)]
        assert len(server.connections) == 3


async def test_more_calls_than_may_wait_learn_it() -> None:
    async with calling(NOBODY, calls_waiting_max=5) as (_, unary):
        calls = [unary(b"x", wait_for_ready=True, timeout=0.3) for _ in range(7)]
        codes = [await code(call) for call in calls]
        assert codes.count(StatusCode.RESOURCE_EXHAUSTED) == 2
        assert codes.count(StatusCode.DEADLINE_EXCEEDED) == 5


async def test_a_silent_server_is_asked_and_then_left() -> None:
    """gRFC A8."""

    async def silent(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.until(lambda frame: frame.kind == o.PING and not frame.flags)
        await peer.until(lambda frame: frame.kind == o.GOAWAY)

    limits = Limits(keepalive_s=0.05, keepalive_timeout_s=0.1)
    async with scripted(silent) as server, calling(server.port, limits=limits) as (_, unary):
        with pytest.raises(RpcError) as error:
            await unary(b"x", timeout=5)
        assert error.value.code() is StatusCode.UNAVAILABLE
        assert "keepalive" in error.value.details()


async def test_a_server_that_wants_fewer_pings_gets_fewer() -> None:
    """gRFC A8: after too_many_pings the client waits twice as long."""

    async def calm(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(o.goaway(0, o.ENHANCE_YOUR_CALM, b"too_many_pings"))

    limits = Limits(keepalive_s=10.0)
    async with scripted(calm) as server, calling(server.port, limits=limits) as (channel, unary):
        assert await unary(b"x", timeout=5, wait_for_ready=True) == b"x"
        [subchannel] = channel._subchannels.values()
        [connection] = subchannel._connections
        assert connection.limits.keepalive_s == 20.0


async def test_a_connection_that_ends_before_it_was_used_is_not_rushed_for() -> None:
    """Else a server that turns clients away is asked as fast as the machine can."""

    async def away(peer: Accepted) -> None:
        await peer.greet()
        await peer.send(o.goaway(0, o.NO_ERROR, b"full"))

    pace = Pace(initial_s=30.0, jitter=0.0)
    async with scripted(*[away] * 9) as server, calling(server.port, pace=pace) as (channel, _):
        channel.get_state(try_to_connect=True)
        while channel.get_state() is not State.TRANSIENT_FAILURE:
            await asyncio.wait_for(channel.wait_for_state_change(channel.get_state()), 5)
        await asyncio.sleep(0.05)
        assert len(server.connections) == 1


async def test_neither_is_one_that_ends_while_nobody_uses_it() -> None:
    """Round robin connects again of itself."""

    async def away(peer: Accepted) -> None:
        await peer.greet()
        await peer.pong()
        await asyncio.sleep(QUIET_S)
        await peer.send(o.goaway(0, o.NO_ERROR, b"full"))

    pace = Pace(initial_s=30.0, jitter=0.0)
    config = ServiceConfig(balancing=Balancing("round_robin"))
    async with (
        scripted(*[away] * 9) as server,
        calling(server.port, pace=pace, config=config) as (channel, _),
    ):
        await channel.channel_ready()
        await until(lambda: channel.get_state() is not State.READY)
        await asyncio.sleep(QUIET_S)
        assert channel.get_state() is State.TRANSIENT_FAILURE
        assert len(server.connections) == 1


async def test_a_channel_that_closes_gives_calls_their_grace() -> None:
    async def slow(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await peer.call()
        await asyncio.sleep(0.05)
        await peer.answer(asked, b"in time")
        await peer.until(lambda frame: frame.kind == o.RST_STREAM)

    async with scripted(slow) as server, calling(server.port) as (channel, unary):
        await channel.channel_ready()
        done, late = unary(b"1", timeout=5), unary(b"2", timeout=5)
        closing = asyncio.create_task(channel.close(0.3))
        assert await done == b"in time"
        with pytest.raises(RpcError) as error:
            await late
        assert (error.value.code(), error.value.details()) == (StatusCode.CANCELLED, "Channel closed!")
        await closing


async def test_a_channel_that_closes_tells_calls_that_wait() -> None:
    async with calling(NOBODY) as (channel, unary):
        call = unary(b"x", wait_for_ready=True)
        await channel.close()
        assert await code(call) is StatusCode.CANCELLED
