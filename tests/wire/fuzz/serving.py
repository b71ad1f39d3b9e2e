"""A fuzzed server: after the preface, any bytes in any pieces, from a peer that may not take what it is sent.

Nothing escapes, what is held has its bounds, what is answered is well-formed HTTP/2, and when the connection
is gone no handler is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import hpack as oracle

from services.chassis.wire import frames
from services.chassis.wire.frames import Flag, FrameType
from services.chassis.wire.limits import ServerLimits
from services.chassis.wire.server.connection import ServerConnection
from services.chassis.wire.server.server import Server
from tests.wire.fuzz.codecs import pieces
from tests.wire.fuzz.machine import HIGH_WATER_BYTES, LOOP, Session

# Small, so that a fuzzer's input meets them.
LIMITS = ServerLimits(
    message_bytes_max=2_000,
    header_list_bytes_max=1_000,
    header_block_bytes_max=2_000,
    continuations_max=3,
    stream_window_bytes=3_000,
    connection_window_bytes=70_000,
    unread_bytes_max=10_000,
    pending_bytes_max=20_000,
    unsent_bytes_max=HIGH_WATER_BYTES,
    resets_max=20,
    idle_frames_max=60,
    streams_max=8,
    keepalive_s=5.0,
)
TIMES_S = (
    0.0,
    0.1,
    12.0,
    700.0,
)  # What may pass between two pieces: nothing, a little, a timeout, all of them.


async def _unary(request: bytes, context: Any) -> bytes:
    if context.time_remaining() is not None:
        await context.send_initial_metadata((("seen", "yes"),))
    context.set_trailing_metadata((("octets-bin", request[:8]),))
    return request


async def _server_stream(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for _ in range(5):
        yield request * 2


async def _client_stream(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return b"|".join([request[:100] async for request in requests])


async def _bidi(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        if request == b"no":
            await context.abort(grpc.StatusCode.ABORTED, "asked to: \N{EURO SIGN}")
        yield request


METHODS = {
    "u": grpc.unary_unary_rpc_method_handler(_unary),
    "s": grpc.unary_stream_rpc_method_handler(_server_stream),
    "c": grpc.stream_unary_rpc_method_handler(_client_stream),
    "b": grpc.stream_stream_rpc_method_handler(_bidi),
}


class Peer(Session):
    """One connection to a fresh server."""

    def __init__(self, slow: bool) -> None:
        self.server = Server(LIMITS)
        self.server.add_registered_method_handlers("a", METHODS)
        self.server.loop = LOOP
        self.accepted = ServerConnection(self.server)
        super().__init__(self.accepted, slow)

    def wait(self, seconds: float) -> None:
        self.server.ticks += int(seconds / LIMITS.sweep_s)
        self.accepted.sweep(self.server.ticks)
        super().wait(seconds)

    def check(self, size: int) -> None:
        super().check(size)
        assert len(self.accepted.streams) <= LIMITS.streams_max
        assert self.accepted.running <= 2 * LIMITS.streams_max

    def end(self) -> None:
        super().end()
        assert self.server._running == self.accepted.running == 0
        assert not self.server.connections
        well_formed(bytes(self.transport.written))


def stream_of_bytes(data: bytes) -> None:
    """Any bytes: the first octet says how the peer behaves and in what pieces it sends."""
    manner, rest = data[:1], data[1:]
    if not manner:
        return
    peer = Peer(slow=bool(manner[0] & 1))
    peer.send(frames.PREFACE)
    size = (1, 5, 9, 13, 64, 300, 5_000, 20_000)[manner[0] >> 1 & 7]
    for at in range(0, len(rest), size):
        peer.send(rest[at : at + size])
    peer.wait(TIMES_S[manner[0] >> 4 & 3])
    peer.end()


def stream_of_frames(data: bytes) -> None:
    """Whole frames, in one piece each or several at once: type, flags and stream by an octet each."""
    manner, rest = data[:1], data[1:]
    if not manner:
        return
    peer = Peer(slow=bool(manner[0] & 1))
    together = [frames.PREFACE + frames.settings({})]
    for frame, behaviour in described(rest):
        together.append(frame)
        if behaviour & 1:
            peer.send(b"".join(together))
            together.clear()
        if behaviour & 2:
            peer.transport.drain()
        if behaviour & 12:
            peer.wait(TIMES_S[behaviour >> 2 & 3])
    peer.send(b"".join(together))
    peer.end()


def described(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Frames, and what happens after each: a piece has behaviour and type, flags, stream, and the payload."""
    for piece in pieces(data):
        if len(piece) >= 3:
            kind, flags, stream_id, payload = piece[0] & 15, piece[1], piece[2], piece[3:]
            repeated = 1 + 200 * (piece[0] == 0xF0)  # Long payloads out of short inputs.
            yield (
                frames.head(len(payload) * repeated, kind, flags, stream_id) + payload * repeated,
                piece[0] >> 4,
            )


def well_formed(answer: bytes) -> None:
    """Whole frames; header blocks that can be read; on no stream anything after its end."""
    decoder, ended, block = oracle.Decoder(1 << 20), set[int](), b""
    while answer:
        length, kind, flags = int.from_bytes(answer[:3], "big"), answer[3], answer[4]
        stream_id, payload = int.from_bytes(answer[5:9], "big"), answer[9 : 9 + length]
        assert len(payload) == length, "half a frame"
        answer = answer[9 + length :]
        if kind in (FrameType.DATA, FrameType.HEADERS):
            assert stream_id not in ended, f"{FrameType(kind).name} after the end of its stream"
        if kind in (FrameType.HEADERS, FrameType.CONTINUATION):
            block += payload
            if flags & Flag.END_HEADERS:
                fields = dict(decoder.decode(block, raw=True))
                assert b":status" in fields or flags & Flag.END_STREAM
                block = b""
        if kind == FrameType.RST_STREAM or (kind in (0, 1) and flags & Flag.END_STREAM):
            ended.add(stream_id)
