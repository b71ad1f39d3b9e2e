"""Calls within a process, without a socket: a channel whose connections end at a server in the same loop.

Both ends are the ordinary ones, with a pipe in place of the socket: messages are copied, deadlines,
cancellation, flow control and limits are those of the wire, because it is the same code.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.chassis.wire.client import Channel, Options
from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.dial import Dial, Make
from services.chassis.wire.server import Server
from services.chassis.wire.server.connection import ServerConnection

NAME = "unix:in-process"  # What stands for an address; nothing is opened by it.
UNREAD_BYTES_MAX = 65_536  # Of a pipe whose reader has paused; then its writer pauses, as at a socket.


class Pipe(asyncio.Transport):
    """One end; what is written comes out at the other in the next turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": "in-process"})
        self.other: Pipe
        self._loop, self._protocol = loop, protocol
        self._written: list[bytes] = []
        self._size = 0
        self._scheduled = self._paused = self._ended = self._closing = False
        self._reading = True

    def write(self, data: Any) -> None:
        if self._closing or self._ended:
            return
        self._written.append(bytes(data))
        self._size += len(data)
        self._schedule()
        if self._size > UNREAD_BYTES_MAX and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._ended = True
        self._schedule()

    def get_write_buffer_size(self) -> int:
        return self._size

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.other._schedule()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What was written still arrives."""
        if not self._closing:
            self._ended = self._closing = True
            self._schedule()

    def abort(self) -> None:
        self._written.clear()
        self.close()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._written:
            if not (self.other._reading or self.other._closing):
                return
            self._hand_over()
        if self._ended and not self._written:
            self._end()

    def _hand_over(self) -> None:
        data = b"".join(self._written)
        self._written.clear()
        self._size = 0
        if not self.other._closing:
            self.other._protocol.data_received(data)
        if self._paused and not self._closing:
            self._paused = False
            self._protocol.resume_writing()

    def _end(self) -> None:
        """EOF at the other end, which closes too; a socket's protocol is told the same way."""
        if not self.other._closing:
            self.other._protocol.eof_received()
            self.other.close()
        if self._closing:
            protocol, self._protocol = self._protocol, _GONE
            protocol.connection_lost(None)


_GONE = asyncio.Protocol()  # After connection_lost, nobody is told of anything.


def dialer(server: Server) -> Dial:
    """Connections to `server`, which must be started."""

    async def dial(address: str, make: Make) -> ClientConnection:
        loop, client, accepted = asyncio.get_running_loop(), make(), ServerConnection(server)
        ours, theirs = Pipe(loop, client), Pipe(loop, accepted)
        ours.other, theirs.other = theirs, ours
        accepted.connection_made(theirs)
        client.connection_made(ours)
        return client

    return dial


def channel(server: Server, options: Options | None = None) -> Channel:
    """A channel to a started server of this process and loop."""
    return Channel(NAME, options, dialer(server))
