"""RFC 9113 as a client must hold it: what it lets pass, and how it behaves of itself."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire import octets as o
from tests.wire.callers import begin, calling, ended, outcome
from tests.wire.peer import Closed
from tests.wire.rig import SERVICE
from tests.wire.scripted import HEAD, OK, Accepted, Asked, scripted

ENGINE = "wire"
BEGUN, END = o.headers(1, HEAD), o.headers(1, OK, o.WHOLE)
MESSAGE = o.data(1, o.message(b"hello"))
WHOLE = BEGUN + MESSAGE + END
RESERVED = 1 << 31
BIG = bytes(200_000)

HARMLESS = {
    "4.1 an unknown frame": o.frame(0x20, 0xFF, 0, b"x") + o.frame(0x20, 0xFF, 1, b"x") + WHOLE,
    "4.1 undefined flags": o.headers(1, HEAD, 0x54) + o.data(1, o.message(b"hello"), 0x76) + END,
    "4.1 reserved bits": o.headers(1 | RESERVED, HEAD) + MESSAGE + o.headers(1 | RESERVED, OK, o.WHOLE),
    "5.3 PRIORITY": o.priority(1) + o.priority(3) + WHOLE,
    "6.1 padding": BEGUN + o.data(1, o.padded(o.message(b"hello"), 255), o.PADDED) + END,
    "6.1 empty DATA": BEGUN + o.data(1) * 5 + MESSAGE + o.data(1) + END,
    "6.2 padded HEADERS": o.frame(o.HEADERS, 0x0C, 1, o.padded(o.block(HEAD), 9)) + MESSAGE + END,
    "6.2 HEADERS with a priority": o.frame(o.HEADERS, 0x24, 1, o.priority_of() + o.block(HEAD))
    + MESSAGE
    + END,
    "6.5 SETTINGS in between": BEGUN + o.settings((o.MAX_CONCURRENT_STREAMS, 5)) + MESSAGE + END,
    "6.5.2 unknown settings": o.settings((0xFF, 1), (0, 0)) + WHOLE,
    "6.5.2 ENABLE_PUSH of 0": o.settings((o.ENABLE_PUSH, 0)) + WHOLE,
    "6.9 window updates": o.window_update(0, 10) + o.window_update(1, 10) + WHOLE + o.window_update(1, 10),
    "6.10 a block in four frames": o.headers(1, HEAD[:1], 0)
    + o.continuation(1, [], 0)
    + o.continuation(1, HEAD[1:], 0)
    + o.continuation(1, [("x", "y")])
    + MESSAGE
    + END,
    "8.1 informational answers first": o.headers(1, [(":status", "100")])
    + o.headers(1, [(":status", "103"), ("link", "x")])
    + WHOLE,
    "8.1 a reset after the whole answer": WHOLE + o.rst_stream(1, o.NO_ERROR),
    "7 a reset with an unknown code after it": WHOLE + o.rst_stream(1, 0xFFFF),
    "8.2.1 bytes past ASCII in a value": o.headers(1, [*HEAD, (b"x", b"\xff\xe4")]) + MESSAGE + END,
    "8.2.3 cookies": o.headers(1, [*HEAD, ("set-cookie", "a=b")]) + MESSAGE + END,
    "content-length that is right": o.headers(1, [*HEAD, ("content-length", "10")]) + MESSAGE + END,
}


@pytest.mark.parametrize("split", [0, 1, 7], ids=lambda size: f"in {size} bytes" if size else "at once")
@pytest.mark.parametrize("octets", HARMLESS.values(), ids=HARMLESS)
async def test_the_client_takes_what_a_server_may_send(octets: bytes, split: int) -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        for at in range(0, len(octets), split or len(octets)):
            await peer.send(octets[at : at + (split or len(octets))])
        await peer.echo()

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        for _ in range(2):
            assert (await outcome(channel)).messages == [b"hello"]
        assert len(server.connections) == 1


def rules(asked: Asked) -> None:
    """§8.2, §8.3.1 and gRPC's Request-Headers."""
    names = [name for name, _ in asked.fields]
    fields = dict(asked.fields)
    pseudo = [name for name in names if name[0] == ":"]
    assert names[: len(pseudo)] == pseudo
    assert sorted(pseudo) == [":authority", ":method", ":path", ":scheme"]
    assert names == [name.lower() for name in names]
    assert not {"connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"} & set(names)
    assert (fields[":method"], fields[":scheme"], fields["te"]) == ("POST", "http", "trailers")
    assert fields[":path"] == f"/{SERVICE}/Unary"
    assert fields["content-type"].startswith("application/grpc")
    assert fields["user-agent"].startswith("grpc-")
    assert int(fields["grpc-timeout"][:-1]) < 10**8
    assert fields["grpc-timeout"][-1] in "HMSmun"
    first = names.index("grpc-timeout")
    assert first < names.index("x-mine")


async def test_what_the_client_sends_is_right() -> None:
    """§3.4, §5.1.1, §6.5, §6.7."""

    async def script(peer: Accepted) -> None:
        await peer.greet((o.MAX_CONCURRENT_STREAMS, 100))
        said = dict(peer.seen[0].settings)
        assert said.get(o.ENABLE_PUSH) == 0
        assert o.FRAME_BYTES <= said.get(o.MAX_FRAME_SIZE, o.FRAME_BYTES) < 2**24
        streams = []
        for _ in range(5):
            asked = await peer.call()
            rules(asked)
            streams.append(asked.stream)
            await peer.pong(b"answered")
            await peer.send(o.settings())
            await peer.until(lambda f: f.kind == o.SETTINGS and f.flags == o.ACK)
            await peer.answer(asked, b"ok")
        assert streams == [1, 3, 5, 7, 9]

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        for _ in range(5):
            assert (await outcome(channel, metadata=(("x-mine", "1"),))).messages == [b"ok"]
        await server.done.wait()


@pytest.mark.parametrize("window", [0, 1, 1000, o.WINDOW_BYTES])
async def test_the_client_keeps_to_the_servers_windows(window: int) -> None:
    """§6.9: of the stream and of the connection; also when they are made smaller under way."""

    async def script(peer: Accepted) -> None:
        await peer.greet((o.INITIAL_WINDOW_SIZE, window))
        asked = await peer.call(whole=False)
        body = await taken(peer, window)
        assert len(body) == min(window, o.WINDOW_BYTES)
        await peer.send(o.window_update(1, 500))
        body += await taken(peer, 500 if window < o.WINDOW_BYTES else 0)
        await peer.send(o.window_update(0, 2**30), o.window_update(1, 2**30))
        while not asked.ended:
            frame = await peer.until(lambda f: f.kind == o.DATA)
            body += frame.payload
            asked.ended = frame.ends
        assert body == o.message(BIG)
        await peer.answer(asked, b"ok")

    async def taken(peer: Accepted, count: int) -> bytes:
        at = len(peer.seen)
        while sum(len(f.payload) for f in peer.seen[at:] if f.kind == o.DATA) < count:
            await peer.frame()
        await peer.pong()
        return b"".join(f.payload for f in peer.seen[at:] if f.kind == o.DATA)

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        assert (await outcome(channel, "Unary", BIG)).messages == [b"ok"]


@pytest.mark.parametrize("most", [o.FRAME_BYTES, 20_000, 2**24 - 1])
async def test_the_client_keeps_to_the_servers_frame_size(most: int) -> None:
    """§4.2, §6.5.2."""

    async def script(peer: Accepted) -> None:
        await peer.greet((o.MAX_FRAME_SIZE, most), (o.INITIAL_WINDOW_SIZE, 2**31 - 1))
        await peer.send(o.window_update(0, 2**30))
        asked = await peer.call()
        assert asked.messages == [BIG]
        assert max(len(frame.payload) for frame in peer.seen) <= most
        await peer.answer(asked, b"ok")

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        metadata = (("x-big", "v" * 15_000), ("x-big-2", "w" * 15_000))
        assert (await outcome(channel, "Unary", BIG, metadata=metadata)).messages == [b"ok"]


async def test_the_client_keeps_to_the_servers_number_of_streams() -> None:
    """§5.1.2: the fourth call waits until one has ended, and a change takes effect."""

    async def script(peer: Accepted) -> None:
        await peer.greet((o.MAX_CONCURRENT_STREAMS, 3))
        await peer.until(lambda f: f.kind == o.SETTINGS and f.flags == o.ACK)
        asked = [Asked(stream, []) for stream in (1, 3, 5, 7, 9, 11)]
        while not {1, 3, 5} <= begun(peer):
            await peer.frame()
        await peer.pong()
        assert begun(peer) == {1, 3, 5}
        await peer.answer(asked[0], b"ok")
        await peer.until(lambda f: f.stream == 7)
        await peer.pong()
        assert begun(peer) == {1, 3, 5, 7}
        await peer.send(o.settings((o.MAX_CONCURRENT_STREAMS, 100)))
        while not {9, 11} <= begun(peer):
            await peer.frame()
        for one in asked[1:]:
            await peer.answer(one, b"ok")

    def begun(peer: Accepted) -> set[int]:
        return {frame.stream for frame in peer.seen if frame.kind == o.HEADERS}

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        found = await asyncio.gather(*(outcome(channel) for _ in range(6)))
        assert [one.messages for one in found] == [[b"ok"]] * 6


@pytest.mark.parametrize("size", [0, 50, 4096, 65_536])
async def test_the_clients_blocks_follow_the_servers_table_size(size: int) -> None:
    """RFC 7541 §4.2."""

    async def script(peer: Accepted) -> None:
        await peer.greet((o.HEADER_TABLE_SIZE, size))
        await peer.until(lambda f: f.kind == o.SETTINGS and f.flags == o.ACK)
        peer.decoder.max_allowed_table_size = size
        await peer.echo()

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        await channel.channel_ready()
        for number in range(6):
            metadata = (("x-same", "again"), ("x-other", str(number)))
            assert (await outcome(channel, metadata=metadata)).messages == [b"hello"]


async def test_the_servers_table_is_kept_through_calls_that_are_given_up() -> None:
    """§4.3: a block on a stream that the client has reset is decoded all the same."""
    entry = o.literal("x-kept", "value", 0x40)

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.call()
        await peer.until(lambda f: f.kind == o.RST_STREAM and f.stream == 1)
        await peer.send(o.frame(o.HEADERS, o.END_HEADERS, 1, o.block(HEAD) + entry), MESSAGE)
        asked = await peer.call()
        answer = o.frame(o.HEADERS, o.END_HEADERS, asked.stream, o.block(HEAD) + b"\xbe")
        await peer.send(answer, o.data(3, o.message(b"ok")), o.headers(3, OK, o.WHOLE))

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        call = begin(channel, "Unary", [b"hello"])
        await asyncio.sleep(0.1)
        call.cancel()
        assert (await ended(call)).code == 1
        found = await outcome(channel)
        assert (found.messages, ("x-kept", "value") in found.initial) == ([b"ok"], True)


async def test_data_for_calls_that_were_given_up_is_counted_and_given_back() -> None:
    """§5.1: else every cancelled stream would shrink the connection for good."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.pong()
        room = o.WINDOW_BYTES + sum(f.number for f in peer.seen if f.kind == o.WINDOW_UPDATE)
        sent, first = 0, room
        while sent < 2 * first:
            asked = await peer.call()
            await peer.until(lambda f: f.kind == o.RST_STREAM)
            await peer.send(o.headers(asked.stream, HEAD))
            for _ in range(4):
                given = sum(f.number for f in peer.seen if f.kind == o.WINDOW_UPDATE and f.stream == 0)
                assert o.WINDOW_BYTES + given - sent >= o.FRAME_BYTES, "the window was not given back"
                await peer.send(o.data(asked.stream, bytes(o.FRAME_BYTES)))
                sent += o.FRAME_BYTES
            await peer.pong()

    from services.chassis.wire.limits import Limits

    limits = Limits(connection_window_bytes=200_000, stream_window_bytes=100_000)
    async with scripted(script) as server, calling(ENGINE, server.port, limits=limits) as channel:
        while not server.done.is_set():
            call = begin(channel, "Unary", [b"hello"])
            await asyncio.sleep(0.02)
            call.cancel()
            await ended(call)


async def test_a_large_answer_needs_more_than_one_window() -> None:
    async def script(peer: Accepted) -> None:
        await peer.greet()
        asked = await peer.call()
        await peer.send(o.headers(1, HEAD))
        body, at = o.message(bytes(3 << 20)), 0
        initial = dict(peer.seen[0].settings).get(o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES)
        while at < len(body):
            updates = [f for f in peer.seen if f.kind == o.WINDOW_UPDATE]
            stream = initial + sum(f.number for f in updates if f.stream == 1) - at
            whole = o.WINDOW_BYTES + sum(f.number for f in updates if f.stream == 0) - at
            if (left := min(stream, whole, o.FRAME_BYTES)) > 0:
                await peer.send(o.data(1, body[at : at + left]))
                at += left
            else:
                await peer.until(lambda f: f.kind == o.WINDOW_UPDATE)
        await peer.send(o.headers(asked.stream, OK, o.WHOLE))

    async with scripted(script) as server, calling(ENGINE, server.port) as channel:
        assert [len(m) for m in (await outcome(channel)).messages] == [3 << 20]


async def test_a_connection_that_is_closed_by_the_channel_says_goodbye() -> None:
    """§5.4, §6.8: GOAWAY, so that the server knows that nothing was lost."""

    async def script(peer: Accepted) -> None:
        await peer.greet()
        await peer.answer(await peer.call(), b"ok")
        try:
            await peer.until(lambda f: f.kind == o.GOAWAY and f.code == o.NO_ERROR)
        except Closed:
            raise AssertionError("closed without a GOAWAY") from None

    async with scripted(script) as server:
        async with calling(ENGINE, server.port) as channel:
            assert (await outcome(channel)).code == 0
        await server.done.wait()
