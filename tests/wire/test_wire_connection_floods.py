"""What a peer may make us do for nothing has an end, and honest peers never meet it (RFC 9113 §10.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.chassis.wire.errors import ConnectionFault, ErrorCode
from services.chassis.wire.floods import Allowance
from tests.wire import octets as o
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.served import PATIENT, channel, path, serving

FEW = replace(PATIENT, idle_frames_max=100, idle_frames_per_s=0.0, resets_max=20, resets_per_s=0.0)
OPENED = o.headers(1, asking("ClientStream"))  # A call that waits for its messages.
FLOODS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "SETTINGS": (b"", lambda number: o.settings()),
    "SETTINGS ACK": (b"", lambda number: o.settings(flags=o.ACK)),
    "windows by SETTINGS": (b"", lambda number: o.settings((o.INITIAL_WINDOW_SIZE, number))),
    "PING": (b"", lambda number: o.ping()),
    "PING ACK": (b"", lambda number: o.ping(flags=o.ACK)),
    "PRIORITY": (b"", lambda number: o.priority(1)),
    "GOAWAY": (b"", lambda number: o.goaway()),
    "unknown frames": (b"", lambda number: o.frame(0xFA)),
    "empty DATA": (OPENED, lambda number: o.data(1)),
    "padding only": (OPENED, lambda number: o.data(1, o.padded(b"", 0), o.PADDED)),
    "single bytes of window": (OPENED, lambda number: o.window_update(1, 1)),
    "single bytes of the connection's window": (b"", lambda number: o.window_update(0, 1)),
    "RST_STREAM on a closed stream": (OPENED + o.rst_stream(1), lambda number: o.rst_stream(1)),
    "rapid reset": (b"", lambda number: hanging(2 * number + 1) + o.rst_stream(2 * number + 1)),
    "resets by bad windows": (
        b"",
        lambda number: hanging(2 * number + 1) + o.window_update(2 * number + 1, 0),
    ),
    "malformed requests": (b"", lambda number: o.headers(2 * number + 1, asking(path=None), o.WHOLE)),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_its_connection_and_no_other(flood: str) -> None:
    opening, frame = FLOODS[flood]
    async with serving(FEW) as (server, port), await Peer.greeted(port) as other:
        async with await Peer.greeted(port) as peer:
            await peer.send(opening, *(frame(number) for number in range(1, 121)))
            assert await peer.fault() == o.ENHANCE_YOUR_CALM
        await other.send(request())
        assert (await other.response()).status == 0
        assert len(server.connections) == 1


async def test_streams_beyond_the_limit_are_counted_too() -> None:
    limits = replace(FEW, streams_max=1)
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(OPENED, *(request(stream) for stream in range(3, 63, 2)))
        assert await peer.fault() == o.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("size", [0, 1])
async def test_continuations_are_few(size: int) -> None:
    """CVE-2024-27316, with empty ones and with small ones."""
    part = o.frame(o.CONTINUATION, 0, 1, o.literal("x-a", "b") if size else b"")
    async with serving() as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking(), 0), part * 9)
        assert await peer.fault() == o.ENHANCE_YOUR_CALM


async def test_a_header_block_has_an_end() -> None:
    limits = replace(PATIENT, header_block_bytes_max=20_000)
    part = o.frame(o.CONTINUATION, 0, 1, o.literal("x-a", "b" * 10_000))
    async with serving(limits) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking(), 0), part * 2)
        assert await peer.fault() == o.ENHANCE_YOUR_CALM


async def test_work_done_earns_resets_and_frames_back() -> None:
    async with serving(FEW) as (_, port), await Peer.greeted(port) as peer:
        for number in range(60):
            stream = 4 * number + 1
            await peer.send(request(stream), hanging(stream + 2), o.rst_stream(stream + 2), o.ping())
            assert (await peer.response(stream)).status == 0
        await peer.pong()


async def test_a_client_that_gives_back_every_byte_at_once_is_served() -> None:
    """As those do that were written on h2: both windows, for each message."""
    async with serving(FEW) as (_, port), await Peer.greeted(port) as peer:
        await peer.send(o.headers(1, asking("Bidi")))
        for number in range(400):
            await peer.send(o.data(1, o.message(b"%d" % number)))
            frame = await peer.until(lambda frame: frame.kind == o.DATA)
            size = len(frame.payload)
            await peer.send(o.window_update(0, size), o.window_update(1, size))
        await peer.pong()


async def test_late_frames_of_many_calls_that_were_ended_at_once_are_let_pass() -> None:
    """RFC 9113 §5.1: after our RST_STREAM, what was on its way is no error."""
    streams = range(1, 3_001, 2)
    fields = asking("ClientStream", ("grpc-timeout", "50m"))
    async with serving() as (_, port), await Peer.greeted(port) as peer:
        await peer.send(*(o.headers(stream, fields) for stream in streams))
        for _ in streams:
            await peer.until(lambda frame: frame.kind == o.RST_STREAM)
        late = o.message(bytes(100))
        await peer.send(*(o.data(stream, late) + o.data(stream, late, o.END_STREAM) for stream in streams))
        await peer.pong()
        await peer.send(request(3_001))
        assert (await peer.response(3_001)).status == 0


async def test_clients_that_cancel_most_of_their_calls_are_served() -> None:
    async def slow(payload: bytes, context: object) -> bytes:
        await asyncio.sleep(0.001)
        return payload

    async with (
        serving(replace(PATIENT, resets_max=50), Unary=slow) as (server, port),
        channel(port) as client,
    ):
        call = client.unary_unary(path("Unary"))
        for _ in range(40):
            calls = [call(b"") for _ in range(3)]
            calls[0].cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert await call(b"still") == b"still"
        assert len(server.connections) == 1


def test_an_allowance_comes_back_with_time_and_work_and_never_exceeds_its_burst() -> None:
    allowance = Allowance("things", 10, 2.0)
    allowance.spend(100.0, 10)
    with pytest.raises(ConnectionFault, match="too many things") as fault:
        allowance.spend(100.0)
    assert fault.value.code == ErrorCode.ENHANCE_YOUR_CALM
    allowance = Allowance("things", 10, 2.0)
    allowance.spend(100.0, 10)
    allowance.spend(101.0, 2)
    allowance.earn(3)
    allowance.spend(101.0, 3)
    with pytest.raises(ConnectionFault):
        allowance.spend(101.0)
    allowance = Allowance("things", 10, 2.0)
    for _ in range(100):
        allowance.earn(10)
    allowance.spend(1_000_000.0, 10)
    with pytest.raises(ConnectionFault):
        allowance.spend(1_000_000.0)
