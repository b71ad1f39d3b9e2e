"""A scripted HTTP/2 client: sends any bytes, reads frames, says what the server made of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import hpack

from tests.wire import octets as o
from tests.wire.octets import Frame
from tests.wire.rig import SERVICE

WAIT_S = 5.0  # For what must come; far above what any answer takes.
QUIET_S = 0.05  # For what must not come, after a PING has been answered.
LIST_BYTES = 1 << 20  # Of decoded fields: a reader of one connection's answers needs no smaller bound.


@dataclass
class Response:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    blocks: int = 0
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """grpc-status, where it may stand: in trailers, or in headers that are trailers too."""
        found = self.trailers.get("grpc-status") or (
            self.headers.get("grpc-status") if self.blocks == 1 else None
        )
        return None if found is None else int(found)

    @property
    def messages(self) -> list[bytes]:
        return o.messages(self.body)


class Closed(Exception):
    """The server closed the connection."""


class Peer:
    """One connection. All frames that arrived stand in `seen`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.decoder = hpack.Decoder(max_header_list_size=LIST_BYTES)
        self._block = b""
        self.seen: list[Frame] = []

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext | None = None) -> Peer:
        """Connects, and sends nothing."""
        name = "localhost" if context else None
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))

    @classmethod
    async def greeted(
        cls, port: int, *values: tuple[int, int], context: ssl.SSLContext | None = None
    ) -> Peer:
        """Connects and exchanges prefaces, with these settings of ours."""
        peer = await cls.open(port, context)
        await peer.greet(*values)
        return peer

    async def greet(self, *values: tuple[int, int]) -> None:
        await self.send(o.PREFACE, o.settings(*values))
        first = await self.frame()
        assert (first.kind, first.flags) == (o.SETTINGS, 0), f"{first} is no server preface (RFC 9113 §3.4)"
        await self.send(o.settings(flags=o.ACK))
        await self.until(lambda frame: frame.kind == o.SETTINGS and frame.flags == o.ACK)

    @property
    def tls(self) -> ssl.SSLObject:
        found: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return found

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._writer.transport.abort()

    async def send(self, *parts: bytes) -> None:
        """Writes them at once. A connection that the server has closed takes them into the void."""
        try:
            self._writer.write(b"".join(parts))
            await self._writer.drain()
        except (ConnectionError, ssl.SSLError):
            return

    def hang_up(self) -> None:
        """Closes as one should: what was written before still goes out."""
        self._writer.close()

    def half_close(self) -> None:
        self._writer.write_eof()

    async def frame(self, within: float = WAIT_S) -> Frame:
        """The next frame. Raises Closed at the end of the connection, TimeoutError when nothing comes."""
        async with asyncio.timeout(within):
            try:
                head = await self._reader.readexactly(o.HEAD_BYTES)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as end:
                raise Closed from end
        frame = Frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFF_FFFF, payload)
        self._decode(frame)
        self.seen.append(frame)
        return frame

    def _decode(self, frame: Frame) -> None:
        if frame.kind not in (o.HEADERS, o.CONTINUATION):
            return
        assert not frame.flags & o.PADDED, "our server does not pad"
        self._block += frame.payload
        if frame.flags & o.END_HEADERS:
            decoded = self.decoder.decode(self._block, raw=True)
            frame.fields = [(bytes(name).decode(), bytes(value).decode("latin-1")) for name, value in decoded]
            self._block = b""

    async def until(self, wanted: Callable[[Frame], bool], within: float = WAIT_S) -> Frame:
        """The first frame from here on that is wanted."""
        async with asyncio.timeout(within):
            while not wanted(frame := await self.frame(within)):
                pass
        return frame

    async def rest(self, within: float = WAIT_S) -> list[Frame]:
        """All frames until the server closes the connection, which it must."""
        at = len(self.seen)
        async with asyncio.timeout(within):
            try:
                while True:
                    await self.frame(within)
            except Closed:
                return self.seen[at:]

    async def pong(self, payload: bytes = b"are you?") -> list[Frame]:
        """Frames until a PING is answered: the server lives, and has handled all that was sent before."""
        at = len(self.seen)
        await self.send(o.ping(payload))
        await self.until(lambda f: f.kind == o.PING and f.flags == o.ACK and f.payload == payload)
        return self.seen[at:-1]

    async def response(self, stream: int = 1, within: float = WAIT_S) -> Response:
        """The whole answer on a stream, from the beginning of the connection on."""
        at, response = 0, Response()
        async with asyncio.timeout(within):
            while True:
                if at == len(self.seen):
                    await self.frame(within)
                frame = self.seen[at]
                at += 1
                if frame.stream == stream and _take(frame, response):
                    return response

    async def reset(self, stream: int = 1) -> int:
        """The code of the RST_STREAM that answers; the connection must live on (RFC 9113 §5.4.2)."""
        found = next((f for f in self.seen if f.kind == o.RST_STREAM and f.stream == stream), None)
        found = found or await self.until(
            lambda f: f.kind == o.GOAWAY or (f.kind == o.RST_STREAM and f.stream == stream)
        )
        assert found.kind == o.RST_STREAM, f"a stream error was due, and the connection ended: {found}"
        await self.pong()
        return found.code

    async def fault(self) -> int:
        """The code of the GOAWAY that answers; the connection must be closed after it (RFC 9113 §5.4.1)."""
        return (await self.goodbye()).code

    async def goodbye(self) -> Frame:
        frames = [*self.seen, *await self.rest()]
        last = next((f for f in reversed(frames) if f.kind == o.GOAWAY), None)
        assert last is not None, f"closed without a GOAWAY after {[str(f) for f in frames]}"
        return last


def _take(frame: Frame, response: Response) -> bool:
    """Adds a frame to a response; True when it was the last."""
    if frame.kind == o.HEADERS or (frame.kind == o.CONTINUATION and frame.fields):
        fields = dict(frame.fields)
        if response.blocks:
            response.trailers = fields
        else:
            response.headers = fields
        response.blocks += bool(frame.fields)
    elif frame.kind == o.DATA:
        response.body += frame.payload
    elif frame.kind == o.RST_STREAM:
        response.reset = frame.code
        return True
    return frame.ends


def asking(rpc: str = "Unary", /, *more: tuple[str, str], **changes: str | None) -> list[tuple[str, str]]:
    """Request headers of a right call. `changes` replaces a pseudo-header by its name; None leaves it out."""
    pseudo = {"method": "POST", "scheme": "http", "path": f"/{SERVICE}/{rpc}", "authority": "test"}
    kept = {name: value for name, value in {**pseudo, **changes}.items() if value is not None}
    fixed = [("content-type", "application/grpc"), ("te", "trailers")]
    return [*((f":{name}", value) for name, value in kept.items()), *fixed, *more]


def request(stream: int = 1, payload: bytes = b"hello", rpc: str = "Unary", *more: tuple[str, str]) -> bytes:
    """A whole right call with one message."""
    return o.headers(stream, asking(rpc, *more)) + o.data(stream, o.message(payload), o.END_STREAM)


def hanging(stream: int = 1, *, half_closed: bool = True) -> bytes:
    """A call that the server keeps open until it is cancelled."""
    end = o.END_STREAM if half_closed else 0
    return o.headers(stream, asking("Unary", ("x-hang", "1"))) + o.data(stream, o.message(), end)
