"""One HTTP/2 request, byte by byte, and what came back: what no gRPC client would send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

WAIT_S = 3.0
READ_BYTES = 65_536


@dataclass
class Reply:
    """Headers and trailers together, the body, and whether the stream was reset."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: bool = False
    ended: bool = False

    @property
    def grpc_status(self) -> int | None:
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None


def frame(message: bytes, flags: int = 0) -> bytes:
    """A gRPC message with its prefix (gRPC over HTTP/2, Length-Prefixed-Message)."""
    return struct.pack(">BI", flags, len(message)) + message


async def send(port: int, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
    """Sends one request on a connection of its own; waits for the end of its stream, WAIT_S at most."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=not body)
    if body:
        connection.send_data(1, body, end_stream=True)
    reply = Reply()
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while not reply.ended:
                writer.write(connection.data_to_send())
                data = await reader.read(READ_BYTES)
                for event in connection.receive_data(data) if data else ():
                    _take(event, reply)
                reply.ended = reply.ended or not data
    writer.close()
    return reply


def _take(event: h2.events.Event, reply: Reply) -> None:
    match event:
        case h2.events.ResponseReceived(headers=headers) | h2.events.TrailersReceived(headers=headers):
            reply.headers.update({str(name): str(value) for name, value in headers or ()})
        case h2.events.DataReceived(data=data):
            reply.body += data or b""
        case h2.events.StreamReset():
            reply.reset = reply.ended = True
        case h2.events.StreamEnded() | h2.events.ConnectionTerminated():
            reply.ended = True
