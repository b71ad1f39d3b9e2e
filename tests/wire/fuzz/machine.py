"""A connection without a network: a loop whose time is ours, and a transport that only remembers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from services.chassis.wire import frames
from services.chassis.wire.connection import Connection

TURNS = 8  # In which every handler has ended that has nothing to wait for.
HIGH_WATER_BYTES = 65_536  # asyncio's own: above it a protocol is asked to pause.


class Nothing:
    """A selector of no sockets."""

    def select(self, _timeout: float | None) -> list[Any]:
        return []


class Loop(asyncio.BaseEventLoop):
    """Turns when told, one turn at a time; what fails in a callback is kept in `faults`."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = Nothing()
        self.now, self.faults = 1000.0, list[dict[str, Any]]()
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self.now

    def _process_events(self, _events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """It never sleeps."""

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.call_soon(self.stop)
            self.run_forever()


class Memory(asyncio.Transport):
    """Takes what is written. A slow one passes it on only when it is told to `drain`."""

    def __init__(self, loop: Loop, protocol: asyncio.Protocol, slow: bool) -> None:
        super().__init__()
        self._loop, self._protocol, self._slow = loop, protocol, slow
        self.written, self.backlog = bytearray(), 0
        self.closing = self.lost = self.reads = self._paused = self._ended = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.closing:
            return
        if self._ended:
            raise RuntimeError("Cannot call write() after write_eof()")  # As asyncio's transports do.
        self.written += data
        if self._slow:
            self.backlog += len(data)
            if self.backlog > HIGH_WATER_BYTES and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    def drain(self) -> None:
        self.backlog = 0
        if self._paused and not self.lost:
            self._paused = False
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.backlog

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 5000) if name == "peername" else default

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._ended = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self.lose)

    abort = close

    def lose(self) -> None:
        """There is no connection any more."""
        if not self.lost:
            self.closing = self.lost = True
            self._protocol.connection_lost(None)


class Complaints(logging.Handler):
    """What the wire logs: of its own accord it has nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


LOOP = Loop()
COMPLAINTS = Complaints()
logging.getLogger("services.chassis.wire").addHandler(COMPLAINTS)


class Session:
    """A connection of ours whose peer is the fuzzer; its bounds hold at every moment."""

    def __init__(self, connection: Connection, slow: bool) -> None:
        LOOP.faults.clear()
        COMPLAINTS.records.clear()
        self.connection = connection
        self.transport = Memory(LOOP, connection, slow)
        connection.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        """The peer sends one piece, and there is a turn of the loop."""
        if not self.transport.lost:
            self.connection.data_received(data)
        LOOP.turn()
        self.check(len(data))

    def wait(self, seconds: float) -> None:
        LOOP.now += seconds
        LOOP.turn(2)
        self.check(0)

    def check(self, size: int) -> None:
        """After a piece of `size`."""
        connection, limits = self.connection, self.connection.limits
        assert not LOOP.faults, LOOP.faults
        assert not COMPLAINTS.records, COMPLAINTS.records
        assert len(connection._rest) <= frames.HEAD_BYTES + limits.frame_bytes_max + size
        assert 0 <= connection.unread <= limits.unread_bytes_max + limits.frame_bytes_max
        assert 0 <= connection.pending <= limits.pending_bytes_max + limits.message_bytes_max
        block_bytes = getattr(connection.block, "size", 0)
        assert block_bytes <= limits.header_block_bytes_max + limits.frame_bytes_max

    def end(self) -> None:
        """The peer goes away: everything of the connection goes with it."""
        self.transport.lose()
        LOOP.turn(TURNS)
        self.check(0)
        assert not self.connection.streams
        assert not self.connection._timers
        assert self.connection.unread == self.connection.pending == 0
        assert not asyncio.all_tasks(LOOP)
