"""Slow and silent peers, tiny windows, thousands of streams and connections, garbage."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import psutil
import pytest

from tests.wire import octets as o
from tests.wire.certificates import pair
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Closed, Peer, asking, request
from tests.wire.siege import MEGABYTE, besieged
from tests.wire.specimen import pong

IMPATIENT = {"handshake_s": 0.3, "header_block_s": 0.3, "request_s": 0.3, "idle_s": 0.6, "sweep_s": 0.1}
FIELDS = asking()
CONNECTIONS, STREAMS = 1_000, 10_000
IDLE_BYTES_MAX = 40 * 1024  # An idle connection: its buffers, tables and the transport's own.


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire", limits={**IMPATIENT, "idle_s": None}) as host:
        yield host


HELLO = o.PREFACE + o.settings()
SLOW = {
    "says nothing": b"",
    "half a preface": o.PREFACE[:12],
    "a preface without settings": o.PREFACE,
    "half a settings frame": HELLO[:-4],
    "half a header block": HELLO + o.headers(1, FIELDS, 0),
    "half a continuation": HELLO + o.headers(1, FIELDS, 0) + o.continuation(1, [("a", "b")])[:11],
}


@pytest.mark.parametrize("point", SLOW)
async def test_who_stops_in_the_middle_is_cut_off(host: Host, point: str) -> None:
    async with besieged(host), await Peer.open(host.port) as peer:
        await peer.send(SLOW[point])
        await peer.rest()
        assert {f.kind for f in peer.seen} <= {o.SETTINGS, o.WINDOW_UPDATE, o.GOAWAY}


@pytest.mark.parametrize("body", [b"", o.message(b"hello")[:3], o.message(b"hello")[:7]])
async def test_a_unary_request_that_does_not_arrive_ends_its_call_only(host: Host, body: bytes) -> None:
    async with besieged(host), await Peer.greeted(host.port) as peer:
        await peer.send(o.headers(1, FIELDS), o.data(1, body))
        response = await peer.response()
        assert response.reset is not None or response.status != 0
        await peer.send(request(3))
        assert (await peer.response(3)).status == 0


async def test_a_byte_a_while_does_not_buy_time(host: Host) -> None:
    """Slow loris: some progress all the time, and never a request."""
    async with besieged(host), await Peer.open(host.port) as peer:
        with pytest.raises(Closed):
            for octet in HELLO + bytes(1000):
                await peer.send(bytes([octet]))
                try:
                    await peer.frame(0.1)
                except TimeoutError:
                    continue


async def test_a_tls_handshake_that_does_not_end_is_cut_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = pair(tmp_path_factory.mktemp("certificates"))
    files = {"key": str(made.key), "certificate": str(made.certificate)}
    async with hosted("wire", limits=IMPATIENT, **files) as host:
        for octets in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)):
            async with await Peer.open(host.port) as peer:
                await peer.send(octets)
                with pytest.raises(Closed):
                    await peer.frame()


async def test_an_idle_connection_is_said_goodbye_to() -> None:
    async with hosted("wire", limits=IMPATIENT) as host, await Peer.greeted(host.port) as peer:
        await peer.send(request())
        assert (await peer.response()).status == 0
        last = await peer.goodbye()
        assert last.code == o.NO_ERROR


async def test_answers_that_find_no_window_are_bounded(host: Host) -> None:
    """Slow read (CVE-2019-9511, -9517): large answers are asked for, and nothing is ever taken."""
    async with besieged(host, 160), await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, 0)) as peer:
        for stream in range(1, 401, 2):
            await peer.send(request(stream, b"", "ServerStream", ("x-bytes", "500000"), ("x-count", "100")))
        await pong(peer)
        held = await host.measure()
        assert held["open"] <= 200


def cancelled(held: dict[str, float]) -> float:
    """Handlers that were cancelled, or closed where they had yielded."""
    return held.get("CancelledError", 0) + held.get("GeneratorExit", 0)


async def test_unary_answers_that_find_no_window_are_bounded() -> None:
    """They are whole already, so back-pressure cannot hold them: one too many ends its call."""
    limits, streams = {"pending_bytes_max": 32 * MEGABYTE}, range(1, 401, 2)
    async with (
        hosted("wire", limits=limits) as host,
        besieged(host, 64),
        await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, 0)) as peer,
    ):
        await peer.send(*(request(stream, b"", "Unary", ("x-bytes", "1000000")) for stream in streams))
        ended: set[int] = set()
        while len(ended) < len(streams) - 33:
            frame = await peer.frame()
            ended |= {frame.stream} if frame.kind == o.RST_STREAM or frame.ends else set()


async def test_an_answer_of_which_nothing_is_taken_is_given_up() -> None:
    """The peer lives, and answers for itself; but it opens no window. One that takes a little goes on."""
    limits = {"stalled_s": 0.5, "sweep_s": 0.1}
    async with (
        hosted("wire", limits=limits) as host,
        await Peer.greeted(host.port, (o.INITIAL_WINDOW_SIZE, 0)) as peer,
    ):
        await peer.send(*(request(stream, b"", "Unary", ("x-bytes", "100")) for stream in (1, 3)))
        for _ in range(15):
            await peer.send(o.window_update(3, 1))
            await asyncio.sleep(0.1)
        await peer.pong()
        resets = [(frame.stream, frame.code) for frame in peer.seen if frame.kind == o.RST_STREAM]
        assert resets == [(1, o.CANCEL)]


async def test_a_socket_that_is_never_read_is_bounded_and_cut_off() -> None:
    """Windows are wide open; only the socket is full."""
    values = (o.INITIAL_WINDOW_SIZE, 2**31 - 1), (o.MAX_FRAME_SIZE, 2**24 - 1)
    large = ("x-bytes", "500000"), ("x-count", "100")
    async with (
        hosted("wire", limits={"stalled_s": 0.5, "sweep_s": 0.1}) as host,
        besieged(host, 160),
        await Peer.greeted(host.port, *values) as peer,
    ):
        await peer.send(o.window_update(0, 2**31 - 1 - o.WINDOW_BYTES))
        await peer.send(*(request(stream, b"", "ServerStream", *large) for stream in range(1, 401, 2)))
        async with asyncio.timeout(10):
            while cancelled(await host.measure()) < 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_thousand_idle_connections_are_cheap_and_leave_nothing() -> None:
    async with hosted("wire") as host:
        async with besieged(host, 80):
            process = psutil.Process(host.process.pid)
            before, fds = process.memory_info().rss, (await host.measure())["fds"]
            peers = [await Peer.greeted(host.port) for _ in range(CONNECTIONS)]
            each = (process.memory_info().rss - before) / CONNECTIONS
            await asyncio.gather(*(pong(peer) for peer in peers))
            for peer in peers:
                peer.close()
            async with asyncio.timeout(10):
                while (await host.measure())["fds"] > fds + 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert each < IDLE_BYTES_MAX, f"{each:.0f} bytes a connection"


async def test_ten_thousand_streams_of_one_connection_are_served(host: Host) -> None:
    async with besieged(host), await Peer.greeted(host.port) as peer:
        await peer.send(o.window_update(0, 2**30))
        served = 0
        for first in range(1, 2 * STREAMS, 400):
            await peer.send(*(request(stream) for stream in range(first, first + 400, 2)))
            ended = 0
            while ended < 200:
                ended += (await peer.frame()).ends
            served += ended
            assert {f.fields[-1] for f in peer.seen if f.ends} <= {("grpc-status", "0")} or served == 0
            del peer.seen[:]
        assert served == STREAMS


@pytest.mark.parametrize("seed", range(20))
async def test_garbage_after_the_preface_ends_the_connection_or_nothing(host: Host, seed: int) -> None:
    noise = random.Random(seed)
    async with besieged(host):
        for _ in range(10):
            async with await Peer.greeted(host.port) as peer:
                await peer.send(noise.randbytes(noise.randrange(1, 40_000)))
                peer.half_close()
                await peer.rest()


@pytest.mark.parametrize("seed", range(10))
async def test_a_call_with_bytes_turned_harms_nobody(host: Host, seed: int) -> None:
    """Nearer to right than garbage: one to three bytes of right frames are other ones."""
    noise = random.Random(seed)
    right = (
        o.settings() + request(1) + request(3, b"x" * 100, "Bidi") + o.ping() + o.rst_stream(3) + request(5)
    )
    async with besieged(host):
        for _ in range(20):
            octets = bytearray(right)
            for _ in range(noise.randrange(1, 4)):
                octets[noise.randrange(len(octets))] = noise.randrange(256)
            async with await Peer.greeted(host.port) as peer:
                await peer.send(bytes(octets))
                peer.half_close()
                await peer.rest()


async def test_connections_that_are_torn_down_at_once_leave_nothing(host: Host) -> None:
    async with besieged(host):
        before = await host.measure()
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", host.port)) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
                one.sendall(HELLO + request())
        async with asyncio.timeout(10):
            while (held := await host.measure())["fds"] > before["fds"] + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert held["rss"] - before["rss"] < 16 * MEGABYTE
