"""One HTTP/2 connection (RFC 9113): bytes to frames to streams, and back. Both sides derive from it.

Frames go out in the order in which they are made, in one write for each turn of the event loop; DATA that
the windows do not allow waits in its stream, and streams take turns. What each frame that comes does is
in `dispatch`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Any, cast

from services.chassis.wire import dispatch, frames
from services.chassis.wire.errors import ConnectionFault, ErrorCode, StreamFault
from services.chassis.wire.floods import Allowance
from services.chassis.wire.flow import Inflow, Turns
from services.chassis.wire.hpack import Decoder, Encoder, Header
from services.chassis.wire.limits import Limits
from services.chassis.wire.settings import Settings, ours
from services.chassis.wire.stream import Stream

TURN_FRAMES_MAX = 128  # Frames of one turn of the loop: then writers let others run.
DIRECT_BYTES_MAX = 16_384  # A larger message takes turns with other streams' from its first frame on.
EARNED = 2  # Idle frames for each that we send: some peers give back both windows for every message.
PINGS_MAX = 16  # Of ours that wait for their answer.
ABANDONED_MAX = 10_000  # Streams that we reset, of which late frames may come: all may be reset at once.

_HEAD = Struct(">IBI").unpack_from  # Length and type, flags, stream.


class Connection(asyncio.Protocol):
    """A transport's other half. A side says what it is told by overriding `on_...`."""

    preface_in = b""  # What the peer sends before its first frame,
    preface_out = b""  # and what we send before ours.
    from_server = False  # Whether the peer is a server.

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits, self.loop = limits, loop
        self.streams: dict[int, Stream] = {}
        self.peer = Settings()
        self.encoder = Encoder()
        self.decoder = Decoder(limits.header_table_bytes_max, limits.header_list_bytes_max)
        self.window = self.peer.window_bytes  # DATA that we may send.
        self.direct_max = DIRECT_BYTES_MAX  # The largest DATA that need not wait; 0 while any has to.
        self.inflow = Inflow(limits.connection_window_bytes)
        self.last_stream_id = 0  # The highest that the peer has opened (§5.1.1).
        self.closing = ""  # Why the connection ends, once it does.
        self.table_changed = False  # The next header block begins with that (RFC 7541 §4.2).
        self.gone_away = False  # Whether the peer was told the last stream that we process.
        self.sent = 0  # Frames.
        self.heard = False  # Something came since this was last set to False.
        self.resets = Allowance("resets", limits.resets_max, limits.resets_per_s)
        self.idle_frames = Allowance(
            "frames that do nothing", limits.idle_frames_max, limits.idle_frames_per_s
        )
        self.block = dispatch.Block()
        self.readers = dispatch.OPENING
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._preface = self.preface_in
        self._out: list[bytes] = []
        self._written = self._taken = 0  # Bytes that the transport was given, and that it had rid itself of.
        self.deaf = self._scheduled = self._paused = False  # Deaf: we do not read, since the peer does not.
        self._turns = Turns()
        self.pending = self.unread = 0  # Bytes that wait for windows; that came and were not consumed.
        self._abandoned: dict[int, None] = {}
        self._pings: dict[bytes, Callable[[], None]] = {}
        self._ping_count = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # What a side says and hears.

    def is_idle(self, stream_id: int) -> bool:
        """Whether no stream of this id was ever opened, by either (§5.1.1)."""
        raise NotImplementedError

    def on_open(self, stream_id: int, fields: list[Header], ended: bool) -> None:
        """HEADERS of a stream that there is not (§5.1.1); a client faults."""
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that was not opened")

    def on_too_long(self, stream_id: int, ended: bool) -> None:
        """A header list above the bound; what it said is lost, its stream cannot go on."""
        raise StreamFault(stream_id, ErrorCode.ENHANCE_YOUR_CALM, "the header list is too long")

    def on_settings(self) -> None:
        """The peer's SETTINGS are in `peer`; the first of them open the connection."""

    def on_goaway(self, goaway: frames.Goaway) -> None:
        """§6.8: the peer processes no stream above `last_stream_id`."""

    def on_ping(self) -> None:
        """§6.7: the peer asks for a sign of life; it is answered next."""

    def on_forgotten(self, stream: Stream) -> None:
        """A stream is closed, and no longer in `streams`."""

    def on_lost(self, reason: str) -> None:
        """There is no connection any more; every stream has been told."""

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # What uvloop gives is none by inheritance.
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        increment = self.limits.connection_window_bytes - Settings().window_bytes
        opening = [self.preface_out, frames.settings(self.settings())]
        self._transport.write(b"".join((*opening, frames.window_update(0, increment))))
        self.after("handshake", self.limits.handshake_s, self._no_handshake)

    def settings(self) -> dict[int, int]:
        """Ours, to be sent first (§3.4); only what differs from the defaults."""
        return ours(self.limits)

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.heard = True
        if self._rest:
            data = self._rest + data
        try:
            if self._preface:
                data = self._without_preface(data)
            if self._preface:
                self._rest = data
            else:
                self._read(data)
        except ConnectionFault as fault:
            self.fail(fault.code, fault.reason)
        except Exception:
            self.fail(ErrorCode.INTERNAL_ERROR, "a frame could not be processed")
            raise

    def _without_preface(self, data: bytes) -> bytes:
        """§3.4: checked byte by byte, so that another protocol is told off at its first."""
        expected = self._preface
        if not data.startswith(expected[: len(data)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        if len(data) < len(expected):
            return data
        self._preface = b""
        return data[len(expected) :]

    def _read(self, data: bytes) -> None:
        """Every whole frame of `data`; what is left waits for more."""
        at, end, frame_bytes_max = 0, len(data), self.limits.frame_bytes_max
        while end - at >= frames.HEAD_BYTES:
            word, flags, stream_id = _HEAD(data, at)
            start, size = at + frames.HEAD_BYTES, word >> 8
            after = start + size
            if size > frame_bytes_max:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            if after > end:
                break
            try:
                self.readers[word & 0xFF](self, flags, stream_id & frames.STREAM_ID_MAX, data[start:after])
            except StreamFault as fault:
                self._fault_stream(fault)
            if self.closing:
                return
            at = after
        self._rest = data[at:] if at else data

    def _fault_stream(self, fault: StreamFault) -> None:
        """§5.4.2. The peer may not make us do this for nothing either (CVE-2025-8671)."""
        self.resets.spend(self.loop.time())
        stream = self.streams.get(fault.stream_id)
        if stream is None and self.is_idle(fault.stream_id):
            raise ConnectionFault(fault.code, fault.reason)
        self.reset(fault.stream_id, fault.code, late_frames=stream is None or not stream.remote_ended)
        if stream is not None:
            stream.cut_off(fault.code, fault.reason, remote=False)

    def pause_writing(self) -> None:
        self._paused = True
        self.direct_max = 0
        self._taken = self._written - self._transport.get_write_buffer_size() if self._transport else 0
        self.after("stalled", self.limits.stalled_s, self._stalled)

    def resume_writing(self) -> None:
        self._paused = False
        self.stop("stalled")
        if self.deaf and self._transport is not None and not self._transport.is_closing():
            self.deaf = False
            self._transport.resume_reading()
        self._settle()
        self._schedule()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.closing = self.closing or "the connection was lost"
        self._transport = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._pings.clear()
        for stream in [*self.streams.values()]:
            stream.cut_off(ErrorCode.CANCEL, self.closing, remote=False)
        self.on_lost(self.closing)

    # Sending.

    def send(self, frame: bytes) -> bool:
        """Queues frames for the end of this turn; whether there is room for more in it."""
        self._out.append(frame)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)
        return len(self._out) < TURN_FRAMES_MAX

    def send_headers(self, stream_id: int, fields: Iterable[Header], ended: bool = False) -> bool:
        """A header block is made when it is sent: the peer's decoder follows our encoder step by step."""
        block = self.encoder.encode(fields)
        self.table_changed = False
        return self.send(frames.headers(stream_id, block, ended, self.peer.frame_bytes_max))

    def table_update(self) -> bytes:
        """What a header block begins with that was made without the encoder, if `table_changed`."""
        self.table_changed = False
        return self.encoder.encode(())

    def reset(self, stream_id: int, code: int, late_frames: bool) -> None:
        """RST_STREAM; `late_frames` says that the peer may not have sent its last yet."""
        self.send(frames.rst_stream(stream_id, code))
        if late_frames:
            self._abandoned[stream_id] = None
            if len(self._abandoned) > ABANDONED_MAX:
                del self._abandoned[next(iter(self._abandoned))]

    def ping(self, answered: Callable[[], None]) -> None:
        """Asks the peer for a sign of life (§6.7)."""
        if len(self._pings) < PINGS_MAX:
            self._ping_count += 1
            opaque = self._ping_count.to_bytes(8, "big")
            self._pings[opaque] = answered
            self.send(frames.ping(opaque))

    def pinged(self, opaque: bytes) -> None:
        """An answer; one that nobody asked for is passed over."""
        answered = self._pings.pop(opaque, None)
        if answered is not None:
            answered()

    def wait_turn(self, stream: Stream) -> None:
        """`stream` has DATA that could not be sent at once."""
        if stream.may_send:
            self._turns.join(stream)
            self.direct_max = 0
            self._schedule()

    async def next_turn(self) -> None:
        """Lets the loop go round when a turn's worth of frames is queued."""
        if len(self._out) >= TURN_FRAMES_MAX:
            await asyncio.sleep(0)

    def wake(self) -> None:
        """The connection's window has grown."""
        if self._turns:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The end of a turn: what streams have waited to send, and one write for all of it."""
        self._scheduled = True  # What is sent from here on is in this turn.
        if self._turns and not self._paused and self.window > 0:
            self.window -= self._turns.send(self.window, self.peer.frame_bytes_max)
        transport, out = self._transport, self._out
        if out and transport is not None:
            octets = out[0] if len(out) == 1 else b"".join(out)
            self._written += len(octets)
            transport.write(octets)
            self.sent += len(out)
            self.idle_frames.earn(EARNED * len(out))
            if self._paused and transport.get_write_buffer_size() > self.limits.unsent_bytes_max:
                self._stop_reading(transport)
        out.clear()
        self._scheduled = False
        self._settle()
        if self._turns and not self._paused and self.window > 0:
            self._schedule()

    def _settle(self) -> None:
        self.direct_max = (
            0 if self._paused or self._turns else min(DIRECT_BYTES_MAX, self.peer.frame_bytes_max)
        )

    def _stop_reading(self, transport: asyncio.Transport) -> None:
        """Who does not take what we answer is not heard: so no queue of ours grows without bound."""
        if not self.deaf and not transport.is_closing():
            self.deaf = True
            transport.pause_reading()

    # Streams.

    def forget(self, stream: Stream) -> None:
        """The stream is closed (§5.1)."""
        if self.streams.pop(stream.id, None) is not None:
            if self._turns.waiting:
                self._turns.leave(stream)
            if stream.held:
                self.unread -= stream.held
                stream.held = 0
            if not stream.gone:
                self.resets.earn()
            self.on_forgotten(stream)

    def abandoned(self, stream_id: int, ended: bool) -> bool:
        """Whether frames of this stream are late ones, after our reset (§5.1); `ended`: this is the last."""
        if stream_id not in self._abandoned:
            return False
        if ended:
            del self._abandoned[stream_id]
        return True

    def hold(self, stream: Stream, size: int) -> None:
        """Counts what came and waits to be consumed."""
        self.unread += size
        if self.unread > self.limits.unread_bytes_max:
            raise StreamFault(stream.id, ErrorCode.ENHANCE_YOUR_CALM, "too much is unread on this connection")

    def release(self, size: int) -> None:
        self.unread -= size

    # The end.

    def fail(self, code: ErrorCode, reason: str) -> None:
        """A connection error (§5.4.1): GOAWAY, and the end of every stream."""
        if self.closing:
            return
        self.close(code, reason)
        for stream in [*self.streams.values()]:
            stream.cut_off(code, self.closing, remote=False)

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """GOAWAY; the connection ends when the peer has read it, after `linger_s` at the latest."""
        if self.closing or self._transport is None:
            return
        self.closing = f"{code.name}: {reason}" if reason else code.name
        if code or not self.gone_away:
            self.send(frames.goaway(self.last_stream_id, code, reason.encode()))
        self._flush()
        transport = self._transport
        self.after("linger", self.limits.linger_s, transport.abort)
        if not transport.can_write_eof():
            transport.close()
            return
        # Closing at once would reset the connection under unread bytes, and take our GOAWAY with it.
        try:
            transport.write_eof()
        except OSError:  # The peer has gone already, and we have not been told.
            transport.abort()
            return
        self._transport = None  # Nothing can be sent behind the end.
        if self.deaf:
            transport.resume_reading()

    # Time.

    def after(self, name: str, delay_s: float, act: Callable[[], Any]) -> None:
        """Sets the timer of this name."""
        self.stop(name)
        self._timers[name] = self.loop.call_later(delay_s, act)

    def stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _no_handshake(self) -> None:
        self.fail(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came in time")

    def _stalled(self) -> None:
        """Still full: a slow peer has taken something, a dead one nothing. It would not read a GOAWAY."""
        if self._transport is None:
            return
        taken = self._written - self._transport.get_write_buffer_size()
        if taken > self._taken:
            self._taken = taken
            self.after("stalled", self.limits.stalled_s, self._stalled)
        else:
            self.closing = "the peer takes nothing"
            self._transport.abort()
